"""Recipes of chapter 9: bases of earlier chapters, held still, and the energies that tilt them.

The base of each is the zoo's, of seed 0; seeds are the energy's. In the plane the energy sees x through Fourier features, as
those of chapter 4 do, and `ABLATIONS` are the rows of thesis Table 4.6 and some more. On images what is modelled is the data
with the noise that the VAE paints with, and what is shown are means: an energy that never saw that noise on data would learn
to hate noise, and nothing else.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from gmcourse.compositions.annealed_tilt import AnnealedTilt
from gmcourse.compositions.generator_update import GeneratorUpdate
from gmcourse.compositions.negatives import Importance, Negatives, NoiseChains
from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm import EBM, MaximumLikelihood, conv_energy, mlp_energy
from gmcourse.fit import cosine
from gmcourse.gan.gan import GAN
from gmcourse.gan.regularisers import GradientPenalty
from gmcourse.model import GenerativeModel, StandardNormal
from gmcourse.recipes import ebm, flows2d, gan2d, vae
from gmcourse.recipes.judged import distance, refined
from gmcourse.recipes.keep import Keep
from gmcourse.recipes.measures import gap_to_truth, modes
from gmcourse.recipes.recipe import Recipe
from gmcourse.recipes.weights import trained
from gmcourse.sampling import MALA

BASES = {recipe.name: recipe for recipe in (*vae.RECIPES, *flows2d.RECIPES)}
ADAM = partial(torch.optim.Adam, betas=(0.9, 0.99))
PLANE = {"steps": 1500, "batch_size": 256, "lr": 2e-3, "clip": 5.0, "schedule": cosine(), "ema": 0.995, "optimizer": ADAM}
IMAGES = {"steps": 300, "batch_size": 32, "lr": 5e-4, "clip": 1.0, "schedule": cosine(0.05), "optimizer": ADAM}
IMAGES |= {"checkpoint_every": 50}
PLAIN = "vae_gaussians25_plain"
STEPS = {"z": 0.001, "x": 0.1}  # the decoder stretches its latents twentyfold more than its paint
ABLATIONS = {
    "vae_gaussians25_plain": "the VAE",
    "ebm_noise_gaussians25": "energy of x, chains from noise",
    "ebm_base_gaussians25": "energy of x, chains from the VAE",
    "wgan_decoder_gaussians25": "its decoder in a Wasserstein game",
    "vaebm_generator_gaussians25": "VAEBM that moves its decoder",
    "vaebm_drift_gaussians25": "VAEBM, Langevin",
    "vaebm_langevin_gaussians25": "VAEBM, Langevin and E²",
    "vaebm_stages_gaussians25": "VAEBM, stages",
    "vaebm_gaussians25": "VAEBM, weighted draws",
}


class Pushed(nn.Module):
    """A transport as a generator: noise (n, D) to data."""

    def __init__(self, base: GenerativeModel):
        super().__init__()
        self.base = base

    def forward(self, eps: Tensor) -> Tensor:
        """(n, D) -> (n, *event_shape)."""
        return self.base.push(eps)


def plane(base: str, negatives: Callable[[], Negatives], **options) -> Tilted:
    """A base of the plane under a small energy with Fourier features."""
    return Tilted(trained(BASES[base]), mlp_energy(2, (64, 64), features=32), negatives(), **options)


def moving() -> GeneratorUpdate:
    """The plain VAE under an energy, its decoder moving after it."""
    return GeneratorUpdate(plane(PLAIN, partial(Importance, 4)))


def of_x(start: Callable[[], GenerativeModel]) -> EBM:
    """An energy of x alone with the same net; its chains, 40 steps as VAEBM's, begin somewhere."""
    chains = MaximumLikelihood(steps=40, step=0.003, start=start(), l2=0.05)
    sampler, box = partial(MALA, step=0.003), [(-ebm.SIDE, ebm.SIDE)] * 2
    energy = mlp_energy(2, (64, 64), features=32)
    return EBM(energy, chains, event_shape=(2,), start=chains.start, sampler=sampler, steps=40, box=box)


def wasserstein() -> GAN:
    """The plain VAE's decoder, with its paint, against a critic."""
    critic = mlp_energy(2, (64, 64), features=32)
    generator = Pushed(trained(BASES[PLAIN]))
    penalty = GradientPenalty(0.1)
    return GAN(generator, critic, event_shape=(2,), latent=4, objective="wasserstein", regularisers=penalty)


def normalised(model: Tilted, x: Tensor, steps: int) -> None:
    """log Z by 50 000 draws of the base, after training."""
    model.normalise(50_000, batch=10_000)


def normalised_within(model: GeneratorUpdate, x: Tensor, steps: int) -> None:
    """log Z by 50 000 draws of the base as it is now."""
    normalised(model.tilted, x, steps)


def _plane(
    name: str, summary: str, base: str, data: str, negatives: Callable, *, steps: int = 1500, family: str | None = None,
    **options,
) -> Recipe:  # fmt: skip
    model, settings = partial(plane, base, negatives, **options), PLANE | {"steps": steps}
    return Recipe(f"{name}_{data}", summary, model, data, gap_to_truth, settings, finish=normalised, family=family)


def _of_x(name: str, start: Callable[[], GenerativeModel], where: str) -> Recipe:
    summary = f"energy of 25 Gaussians, chains from {where}"
    return Recipe(f"ebm_{name}_gaussians25", summary, partial(of_x, start), "gaussians25", gap_to_truth, PLANE)


def images(base: str) -> Tilted:
    """A VAE of images, of one latent group or of more, under a convolutional energy; its paint is also on the data."""
    model = trained(BASES[base])
    paint = float(model.likelihood_of_x.log_sigma.detach().exp())
    energy, chains = conv_energy(model.event_shape, (16, 32, 64)), NoiseChains(10, 0.1, sample_steps=40)
    return Tilted(model, energy, chains, l2=0.1, data_noise=paint, show_mean=True)


def _images(base: str, data: str, what: str) -> Recipe:
    name, keep = f"tilted_{base}", Keep(partial(distance, data))
    summary, source = f"{what} of {data.replace('_', ' ')}, tilted", "thesis 4.4.1 and 4.4.3, smaller nets and fewer steps"
    measure, model = partial(refined, data), partial(images, base)
    return Recipe(name, summary, model, data, measure, IMAGES, keep=keep, source=source)


_chains = partial(NoiseChains, 40, STEPS)
_of_25 = partial(_plane, base=PLAIN, data="gaussians25")
_game = {"lr": {"critic": 2e-3, "generator": 2e-4}, "ema": {"critic": None, "generator": 0.995}, "optimizer": gan2d.ADAM}
_both = {"lr": {"energy": 2e-3, "generator": 2e-4}}
RECIPES = (
    _of_25("vaebm", "VAEBM on 25 Gaussians, weighted draws", negatives=partial(Importance, 4), family="VAEBM"),
    _of_25("vaebm_langevin", "VAEBM on 25 Gaussians, Langevin and E²", negatives=_chains, steps=800, l2=0.05),
    _of_25("vaebm_drift", "VAEBM on 25 Gaussians, Langevin alone", negatives=_chains, steps=800),
    _of_25("vaebm_stages", "VAEBM on 25 Gaussians, stages", negatives=partial(AnnealedTilt, 3, 0.002)),
    Recipe(
        "vaebm_generator_gaussians25",
        "VAEBM on 25 Gaussians that moves its decoder",
        moving,
        "gaussians25",
        gap_to_truth,
        PLANE | _both,
        finish=normalised_within,
    ),
    _of_x("noise", partial(StandardNormal, 2), "noise"),
    _of_x("base", partial(trained, BASES[PLAIN]), "the VAE"),
    Recipe(
        "wgan_decoder_gaussians25",
        "the decoder of a VAE of 25 Gaussians in a Wasserstein game",
        wasserstein,
        "gaussians25",
        modes,
        PLANE | _game,
    ),
    _plane(
        "vaebm",
        "VAEBM on the Swiss roll, weighted draws",
        "vae_swiss_roll",
        "swiss_roll",
        partial(Importance, 4),
        family="VAEBM",
    ),
    _plane(
        "tilted_flow",
        "RealNVP of 25 Gaussians, tilted",
        "flow_real_nvp_gaussians25",
        "gaussians25",
        partial(Importance, 4),
        family="tilted flow",
    ),
    *(_images(f"vae_{data}", data, "VAE") for data in ("mnist", "fashion_mnist")),
    *(_images(f"hvae_{data}", data, "hierarchical VAE") for data in ("mnist", "fashion_mnist")),
)
