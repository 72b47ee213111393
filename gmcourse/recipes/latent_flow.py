"""Recipes of chapter 8: auto-encoders of one encoder and one decoder, thesis Table 3.6, and every way to mend their prior.

All of `TABLE` have 20 latents and the same nets, 8 and 16 channels and a layer of 256; all are trained for the same steps,
with the same batches and learning rate (but critics learn twice as fast, an AAE's encoder moves twice a step, and the
two-stage VAE has as many steps again for its second net); and what all show as samples is G(z). β is the thesis', for pixels
in [0, 1] (`UNIT`); a VAE for which none is named has 1, as in Table 3.1. `plane_…` have two latents, to be looked at.
"""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from gmcourse.compositions import (
    WAEGAN,
    AdversarialAutoencoder,
    GenerativeLatentFlow,
    PerceptualLoss,
    RegularisedAutoencoder,
    SquaredError,
    TwoStageVAE,
    WassersteinAutoencoder,
    fit_gaussian,
    fit_mixture,
    flow_posterior_vae,
    flow_prior_vae,
    vampprior_vae,
)
from gmcourse.compositions.wae import IMQ, SCALES
from gmcourse.data.images import SHAPES, load_images
from gmcourse.fit import cosine
from gmcourse.flows import Flow, neural_spline_flow, real_nvp
from gmcourse.flows.linear import ActNorm
from gmcourse.gan import R1, Critic
from gmcourse.mixture import MixtureModel
from gmcourse.model import GenerativeModel, StandardNormal
from gmcourse.nets.infogan import InfoDecoder, InfoEncoder
from gmcourse.nets.mlp import MLP
from gmcourse.recipes.judged import generated, perceptual_net
from gmcourse.recipes.measures import gap_to_truth
from gmcourse.recipes.recipe import Recipe
from gmcourse.recipes.vae import LIVE, SHARPENED
from gmcourse.vae import VAE, GaussianEncoder, mlp_vae

LATENT, WIDTH, HIDDEN = 20, 8, 256
UNIT = 2.0  # pixels in [−1, 1] differ by twice what they would in [0, 1]
CONTEXT = 16  # numbers that steer the flow of a posterior
PICTURES = ("mnist", "fashion_mnist", "emoji")
FIT = {"steps": 1000, "batch_size": 64, "schedule": cosine(), "clip": 100.0, "checkpoint_every": 500}
BETAS = (1, 10, 100, 400)
PLANE_BETAS = (1, 10, 50, 100, 400)
TABLE = (
    "vae_beta1",
    "flow_posterior",
    "flow_prior_beta1",
    "vampprior",
    "two_stage",
    "aae",
    "wae_gan",
    "wae_mmd",
    "ae_gaussian",
    "rae_gmm",
    "glf",
    "glf_standardised",
    "glf_perceptual",
)


def encoder(data: str, outputs: int = LATENT) -> nn.Module:
    """x -> z, or the 2d numbers of q(z|x)."""
    return InfoEncoder(SHAPES[data], outputs, width=WIDTH, hidden=HIDDEN)


def decoder(data: str, latent: int = LATENT) -> nn.Module:
    """z -> x̂."""
    return InfoDecoder(latent, SHAPES[data], width=WIDTH, hidden=HIDDEN)


def latent_flow(latent: int = LATENT) -> Flow:
    """Four affine couplings of three layers of 64, the thesis'; splines for two latents, whose law is all bends."""
    if latent > 2:
        return real_nvp((latent,), layers=4, hidden=(64, 64, 64))
    spline = neural_spline_flow((latent,), layers=4, bins=16, bound=4.0)
    return Flow(spline.base, [ActNorm(latent), spline.chain])


def vae(data: str, latent: int = LATENT, *, prior: Callable[[int], GenerativeModel] = StandardNormal, **options) -> VAE:
    """A VAE with prior N(0, I), or another; `beta` and `learned` as of `flow_prior_vae`."""
    nets = GaussianEncoder(encoder(data, 2 * latent)), decoder(data, latent)
    return flow_prior_vae(SHAPES[data], *nets, prior(latent), sigma=UNIT, **options)


def flow_posterior(data: str) -> VAE:
    """A VAE whose posterior is bent by two IAF layers."""
    nets = encoder(data, 2 * LATENT + CONTEXT), decoder(data)
    return flow_posterior_vae(SHAPES[data], *nets, latent=LATENT, kind="iaf", layers=2, context=CONTEXT, sigma=UNIT)


def vampprior(data: str) -> VAE:
    """A VAE whose prior is the mean of 100 posteriors; the pseudo-inputs start at data."""
    pseudo_inputs = load_images(data, limit=100)[0]
    return vampprior_vae(SHAPES[data], GaussianEncoder(encoder(data, 2 * LATENT)), decoder(data), pseudo_inputs, sigma=UNIT)


def two_stage(data: str) -> TwoStageVAE:
    """A VAE that learns its σ, and one on its latents."""
    return TwoStageVAE(vae(data, beta=10, learned=True), mlp_vae((LATENT,), latent=LATENT))


def autoencoder(
    kind: type, data: str, prior: Callable[[int], GenerativeModel], *parts: nn.Module, latent: int = LATENT,
    standardised: bool = False, **options,
) -> GenerativeModel:  # fmt: skip
    """A deterministic auto-encoder of one kind; `standardised` brings its codes to mean 0 and variance 1."""
    encode = encoder(data, latent)
    if standardised:
        encode = nn.Sequential(encode, nn.BatchNorm1d(latent, affine=False))
    nets = encode, decoder(data, latent), prior(latent)
    return kind(SHAPES[data], *nets, *parts, **{"distortion": SquaredError(UNIT)} | options)


def adversarial(kind: type, data: str, **options) -> GenerativeModel:
    """An auto-encoder with a critic of its codes; R1 keeps the two from running round each other."""
    critic = Critic(MLP(LATENT, (), (128, 128)), event_shape=(LATENT,), regularisers=R1(gamma=0.3))
    return autoencoder(kind, data, StandardNormal, critic, **options)


def glf(data: str, **options) -> GenerativeModel:
    """Generative latent flow; standardised, the flow need not run after the scale of the codes."""
    return autoencoder(GenerativeLatentFlow, data, latent_flow, **options)


def perceptual_glf(data: str) -> GenerativeModel:
    """Generative latent flow with a perceptual loss beside the pixels'."""
    return glf(data, distortion=PerceptualLoss(perceptual_net(data), weight=100.0, pixels=SquaredError(UNIT)))


def bent_prior() -> VAE:
    """The VAE of chapter 2's hole, with a flow for its prior."""
    return SHARPENED(prior=neural_spline_flow((2,), layers=2, bins=16, bound=4.0))


def second_stage(model: TwoStageVAE, x: Tensor, steps: int) -> None:
    """As many steps for the second VAE as the first had."""
    model.fit_prior(x, steps=steps, batch_size=256, schedule=cosine(), progress=False)


def one_gaussian(model: GenerativeModel, x: Tensor, steps: int) -> None:
    """The prior becomes the Gaussian of the codes; there are no steps."""
    fit_gaussian(model, x)


def ten_gaussians(model: GenerativeModel, x: Tensor, steps: int) -> None:
    """The prior becomes a mixture of ten, by as many steps of EM as it takes."""
    fit_mixture(model, x)


def _recipe(
    name: str, summary: str, model: Callable, data: str, *, lr: float | dict = 1e-3, steps: int = FIT["steps"], **options
) -> Recipe:
    text, source = f"{summary}, on {data.replace('_', ' ')}", "thesis 3.4.3, smaller nets and fewer steps"
    settings = FIT | {"lr": lr, "steps": steps}
    return Recipe(f"{name}_{data}", text, model, data, partial(generated, data), settings, source=source, **options)


def _ladder(
    name: str, summary: str, data: str, betas: Sequence[int] = BETAS, lr: float = 1e-3, **options
) -> list[Recipe]:  # fmt: skip
    """VAEs of growing β."""
    models = {beta: partial(vae, data, beta=beta, **options) for beta in betas}
    return [_recipe(f"{name}_beta{beta}", f"{summary}, β = {beta}", model, data, lr=lr) for beta, model in models.items()]


def _of(data: str) -> list[Recipe]:
    """The recipes of one set of images."""
    learned = partial(vae, data, prior=latent_flow, beta=10, learned=True)
    standardised = partial(glf, data, standardised=True)
    mmd = {"weight": 100.0, "kernel": IMQ(scales=SCALES)}
    plain = partial(autoencoder, RegularisedAutoencoder, data, partial(MixtureModel, 1), penalty=0.0)
    rae = partial(autoencoder, RegularisedAutoencoder, data, partial(MixtureModel, 10), penalty=0.5)
    rates = {"autoencoder": 1e-3, "critic": 2e-3, "encoder": 1e-3}
    return [
        *_ladder("vae", "VAE", data),
        *_ladder("flow_prior", "VAE with flow prior", data, prior=latent_flow),
        _recipe("flow_prior_learned", "VAE with flow prior, β learned", learned, data),
        _recipe("flow_posterior", "VAE with flow posterior", partial(flow_posterior, data), data),
        _recipe("vampprior", "VAE with VampPrior", partial(vampprior, data), data),
        _recipe("two_stage", "Two-stage VAE", partial(two_stage, data), data, finish=second_stage),
        _recipe("aae", "Adversarial auto-encoder", partial(adversarial, AdversarialAutoencoder, data), data, lr=rates),
        _recipe("wae_gan", "WAE-GAN", partial(adversarial, WAEGAN, data, weight=10.0), data, lr=rates),
        _recipe("wae_mmd", "WAE-MMD", partial(autoencoder, WassersteinAutoencoder, data, StandardNormal, **mmd), data),
        _recipe("ae_gaussian", "Auto-encoder, one Gaussian fitted to its codes", plain, data, finish=one_gaussian),
        _recipe("rae_gmm", "Regularised auto-encoder, 10 Gaussians fitted to its codes", rae, data, finish=ten_gaussians),
        _recipe("glf", "Generative latent flow", partial(glf, data), data),
        _recipe("glf_standardised", "Generative latent flow of standardised codes", standardised, data),
        _recipe("glf_long", "Generative latent flow, five times as long", partial(glf, data), data, steps=5 * FIT["steps"]),
        _recipe("glf_perceptual", "Generative latent flow with perceptual loss", partial(perceptual_glf, data), data),
    ]


def _plane(data: str) -> list[Recipe]:
    """Models of two latents; a code wanders further where there are few, and the flow has to follow."""
    lr, two = 4e-3, {"latent": 2, "prior": latent_flow}
    flow = partial(glf, data, latent=2, standardised=True)
    return [
        _recipe("plane_vae", "VAE of two latents, β = 50", partial(vae, data, 2, beta=50), data, lr=lr),
        *_ladder("plane_flow_prior", "VAE of two latents with flow prior", data, PLANE_BETAS, lr, **two),
        _recipe("plane_glf", "Generative latent flow of two latents", flow, data, lr=lr),
    ]


HOLE = Recipe(
    "flow_prior_gaussians25",
    "VAE with flow prior on 25 Gaussians, otherwise that of chapter 2",
    bent_prior,
    "gaussians25",
    gap_to_truth,
    LIVE,
)
RECIPES = (*(recipe for data in PICTURES for recipe in _of(data)), *_plane("mnist"), HOLE)
