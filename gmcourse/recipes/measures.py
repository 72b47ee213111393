"""What the numbers on a card are, for each kind of model: measured on test data, and measured again by the tests."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.classifier import Classifier
from gmcourse.compositions.dynamics import GradientFlow
from gmcourse.compositions.generator_update import GeneratorUpdate
from gmcourse.compositions.short_run import ShortRun
from gmcourse.compositions.tilted import Tilted
from gmcourse.ebm import EBM
from gmcourse.flows import dequantise
from gmcourse.flows.flow import Flow
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.likelihood import likelihood_gap
from gmcourse.metrics.modes import mode_report
from gmcourse.metrics.ood import auroc
from gmcourse.metrics.transport import wasserstein
from gmcourse.model import GenerativeModel
from gmcourse.randomness import draw, seeded
from gmcourse.training.feed import key
from gmcourse.vae import VAE, HierarchicalVAE, LatentGrid, elbo, iwae_bound

Numbers = dict[str, float]
TEMPERATURES = tuple(10 ** (k / 4) for k in range(-4, 9))  # 0.1 … 100


def by_quadrature(model: GenerativeModel) -> Callable[[Tensor], Tensor] | None:
    """log p of a VAE, or of a tilted one whose log Z is known, (n, *event_shape) -> (n,), integrated on a grid, where its
    latent space has one or two dimensions."""
    if isinstance(model, GeneratorUpdate):
        return by_quadrature(model.tilted)
    if isinstance(model, Tilted) and not model.log_z.isnan() and (base := by_quadrature(model.base)):
        return partial(model.log_prob, base=base)
    if isinstance(model, VAE) and model.prior.event_shape.numel() <= 2:
        return LatentGrid(model).log_prob
    return None


def gap_to_truth(model: GenerativeModel, data: Distribution) -> Numbers:
    """KL(data ‖ model) in nats on 2000 fresh points; a VAE's density is integrated where its latent space allows."""
    gap = likelihood_gap(by_quadrature(model) or model, data, n=2000)
    return {"gap": gap.value, "gap_stderr": gap.stderr}


def readings(model: ShortRun, data: Distribution) -> Numbers:
    """One energy read in two ways, on 2000 fresh points: the gap of its flow, and what that is with an adaptive solver; the
    gap of e^{−E/T} at T = 1, and at the best of 13 temperatures. All in nats."""
    ebm = model.as_ebm(Grid([(-4.0, 4.0)] * 2, points=200))
    finer = model.under(GradientFlow(model.dynamics.time, solver="dopri5", tolerance=1e-6))
    gaps = {t: likelihood_gap(partial(ebm.log_prob, temperature=t), data, n=2000).value for t in TEMPERATURES}
    return gap_to_truth(model, data) | {
        "gap_dopri5": likelihood_gap(finer, data, n=2000).value,
        "ebm_gap": gaps[1.0],
        "ebm_gap_best": min(gaps.values()),
    }


def modes(model: GenerativeModel, data: Distribution) -> Numbers:
    """What 10 000 samples reach of a mixture: modes covered, their KL in nats, and the share within 4σ of a mode."""
    x = model.sample(10_000, generator=torch.Generator(next(model.parameters()).device).manual_seed(0)).cpu()
    report = mode_report(x, data)
    return {"modes": report.covered, "mode_kl": report.kl, "within": report.within}


def transport(model: GenerativeModel, data: Distribution) -> Numbers:
    """W₂ of 1000 samples to as many of the data, in units of x; beside it that of as many other data, the floor."""
    generator = torch.Generator().manual_seed(key(0, "data"))  # another stream than the model's
    real, other = (draw(data, 1000, generator=generator) for _ in range(2))
    x = model.sample(1000, generator=torch.Generator(next(model.parameters()).device).manual_seed(0)).cpu()
    return {"w2": wasserstein(x, real), "w2_of_data": wasserstein(other, real)}


def bounds(model: VAE | HierarchicalVAE, images: Tensor) -> Numbers:
    """ELBO, its two terms, and the importance-weighted bound with 50 draws, in nats, of the first 500 images."""
    x = images[:500].to(next(model.parameters()).device)
    with seeded(0, x.device):
        terms, bound = elbo(model, x, samples=5), iwae_bound(model, x, 50, chunk=2500)
    numbers = {"elbo": terms.value, "reconstruction": terms.reconstruction, "kl": terms.kl, "iwae50": bound}
    return {name: float(value.mean()) for name, value in numbers.items()}


@torch.no_grad()
def bits_per_dim(model: Flow, images: Tensor) -> Numbers:
    """Upper bound on the bits per dimension of test images, one draw of the dequantisation noise each, and its error."""
    here = next(model.parameters()).device
    with seeded(0, here):
        log_prob = torch.cat([model.log_prob(batch.to(here)) for batch in images.split(250)])
    bits = dequantise.bits_per_dim(log_prob, model.event_shape)
    return {"bits_per_dim": float(bits.mean()), "stderr": float(bits.std() / len(bits) ** 0.5)}


def energies(model: EBM, images: Tensor) -> Numbers:
    """Mean energy in nats of 1000 test images and of the model's persistent chains, and how well it tells the former
    from as many images of uniform noise and from their own negatives (AUROC)."""
    x = images[:1000].to(next(model.energy.parameters()))
    with seeded(0, x.device):
        noise = 2 * torch.rand_like(x) - 1
    chains = model.objective.start.sample(len(x), generator=torch.Generator(x.device).manual_seed(0))
    found = {name: model.values(batch).detach() for name, batch in (("data", x), ("chains", chains), ("noise", noise))}
    return {
        "energy_data": float(found["data"].mean()),
        "energy_chains": float(found["chains"].mean()),
        "auroc_noise": auroc(-found["data"], -found["noise"]),
        "auroc_negatives": auroc(-found["data"], -model.values(-x).detach()),
    }


def accuracy(model: Classifier, pairs: tuple[Tensor, Tensor]) -> Numbers:
    """Fraction of the test images that a classifier names rightly."""
    here = next(model.parameters()).device
    return {"accuracy": model.accuracy(*(part.to(here) for part in pairs))}
