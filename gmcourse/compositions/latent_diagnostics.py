r"""What is wrong between p(z), which we draw from, and q(z), which the decoder knows (thesis 3.2, Fig. 3.6), in numbers.

    q(z) = E_data[q(z|x)]                       the aggregated posterior; of a deterministic encoder the law of E(x)
    MMD²(q, p), −E_q[log p(z)]/d                how far apart they are; the second knows nothing of holes (below)
    E_x H[q(z|x)] = E_x Σ_j log σ_j(x) + d/2 log 2πe                                last term of thesis (3.4), in nats
    hole score = P_p(q(z) < c)                  with c such that P_q(q(z) < c) is the level, 1 %

−E_q[log p] punishes p for being small where q is large. The prior hole is the other way round: p is large, q small, and the
decoder is asked for what it has never seen. Codes don't tell q(z) there, but the distance r_k(z) to the k-th nearest of m
codes does: m q(z) × (volume of a ball of radius r_k) ≈ k, so that q(z) is low where r_k is large. The score is the share of
prior draws whose r_k exceeds that of 99 % of held-out codes, for any model that has codes. Where p = q, draws and held-out
codes are alike, and the score is the level (rounded down to whole codes) at any dimension, k and m.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.compositions.posthoc import codes
from gmcourse.metrics.likelihood import Estimate
from gmcourse.metrics.mmd import mmd2
from gmcourse.metrics.neighbours import nearest_neighbours
from gmcourse.model import GenerativeModel, Likelihood, check_count, evaluating
from gmcourse.randomness import seeded
from gmcourse.vae import VAE
from gmcourse.vae.posterior import is_diagonal

DRAWS = 64  # behind a variance that has no closed form


class Mismatch(NamedTuple):
    """`mmd2`: MMD² of q(z) and p(z). `nll`: −log p(z) per dimension at z ~ q, nats; None where the prior has no density."""

    mmd2: Estimate
    nll: Estimate | None


class Holes(NamedTuple):
    """`share` of the prior's draws that lie where q is low, and those draws `z` (m, d), the one farthest out first."""

    share: Estimate
    z: Tensor


def posterior_draws(model: GenerativeModel, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
    """z ~ q(z|x), or E(x) of an `Autoencoder`, (n, *event_shape) -> (n, d), without a graph, in evaluation mode."""
    _check_model(model)
    if generator is None:
        return codes(model, x)
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    with seeded(seed, x.device):  # posteriors take no generator
        return codes(model, x)


@torch.no_grad()
def mismatch(
    model: GenerativeModel, x: Tensor, *, bandwidth: float | None = None, generator: torch.Generator | None = None
) -> Mismatch:
    """How far q(z), by one draw for each row of x (n, *event_shape), is from p(z), by n draws.

    The bandwidth of the MMD's kernel is the median distance unless given, so the scale of z does not matter. To the NLL it
    does: it falls by log s where codes and prior shrink to 1/s. Raises ValueError for fewer than 4 rows.
    """
    q = posterior_draws(model, x, generator=generator)
    with evaluating(model):
        p = model.prior.sample(len(q), generator=generator)
        known = model.prior.likelihood in (Likelihood.EXACT, Likelihood.LOWER_BOUND)
        nll = -model.prior.log_prob(q) / q.shape[1] if known else None
    found = mmd2(q, p, bandwidth=bandwidth)
    return Mismatch(found, None if nll is None else Estimate(float(nll.mean()), float(nll.std() / len(nll) ** 0.5)))


@torch.no_grad()
def entropy_term(vae: VAE, x: Tensor) -> float:
    """The last term of thesis (3.4): E_q[−log q(z|x)], the entropy of q(z|x), in nats, its mean over x.

    Source has −Σ_j log(σ_j)/2 with σ_j the standard deviation, and "higher entropy means lower variances". The entropy of
    N(μ, diag σ²) is Σ_j log σ_j + d/2 log 2πe, and grows with σ_j: the source's is a loss, the negative of the term, without
    the constant, and its ½ is right for variances σ_j. Of a posterior without closed form it is estimated, at one z per x.
    Raises ValueError for a deterministic encoder: the entropy of a point is −∞.
    """
    return float(torch.cat([_entropy(q) for q in _posteriors(vae, x)]).mean())


@torch.no_grad()
def posterior_variance(vae: VAE, x: Tensor) -> Tensor:
    """Var[z_j|x] of each latent dimension, its mean over x, (d,); estimated by draws where there is no closed form."""
    return torch.cat([_variance(q) for q in _posteriors(vae, x)]).mean(0)


@torch.no_grad()
def holes(
    model: GenerativeModel,
    x: Tensor,
    *,
    n: int = 2000,
    level: float = 0.01,
    k: int = 10,
    generator: torch.Generator | None = None,
) -> Holes:
    """The share of n prior draws that lie where q(z) is low, and which they are, to be decoded.

    Args:
        x: data, half of which make the codes whose k-th nearest is looked for, and half the held-out codes that say what is
            far; best data that the encoder has not been trained on.
        level: the score if p = q; above it the prior has mass in the holes of q.

    The standard error is that of n draws at the threshold found. Raises ValueError for less than 1/level − 1 held-out codes.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1); got {level}")
    z = posterior_draws(model, x, generator=generator)
    known, held = z[torch.randperm(len(z), generator=generator, device=z.device)].tensor_split(2)
    beyond = math.floor((len(held) + 1) * level + 1e-9)  # of held + 1 exchangeable distances, as many may be beyond
    if beyond < 1:
        raise ValueError(f"x must have at least {2 * math.ceil(1 / level) - 2} rows for level={level}; got {len(x)}")
    with evaluating(model):
        drawn = model.prior.sample(check_count(n), generator=generator)
    far, usual = (nearest_neighbours(v, known, k=k).distances[:, -1] for v in (drawn, held))
    order = far.argsort(descending=True)
    within = order[far[order] > usual.sort(descending=True).values[beyond - 1]]
    share = len(within) / n
    return Holes(Estimate(share, (share * (1 - share) / n) ** 0.5), drawn[within])


@torch.no_grad()
def interpolate(model: GenerativeModel, eps_a: Tensor, eps_b: Tensor, steps: int = 9, *, spherical: bool = False) -> Tensor:
    """Fig. 3.3: `push` along the way from noise a to noise b, both (n, D) -> (n, steps, *event_shape), the ends included.

    The straight line is the thesis'. Between two draws of N(0, I) it passes through short vectors: E‖(a + b)/2‖² = D/2, but
    a draw has ‖a‖² = D ± √(2D), so in high dimension its middle is nothing that the model was trained to push. `spherical`
    turns the direction along the great circle and leads the norm from ‖a‖ to ‖b‖. The noise ε_x of x given z, where a model
    has it, is left out: the way leads through E[x|z].

    Raises ValueError for shapes that differ, and on the sphere for a = 0 and a = −b, where there is no shortest way.
    """
    size = sum(model.noise_blocks.values())
    if eps_a.ndim != 2 or eps_a.shape[1] != size or eps_a.shape != eps_b.shape:
        came = f"{tuple(eps_a.shape)} and {tuple(eps_b.shape)}"
        raise ValueError(f"eps_a and eps_b must have the same shape (n, {size}); got {came}")
    if check_count(steps, "steps") < 2:
        raise ValueError(f"steps must be at least 2, the two ends; got {steps}")
    t = torch.linspace(0, 1, steps, device=eps_a.device, dtype=eps_a.dtype)[:, None]
    a, b = (_without_pixels(model, eps)[:, None] for eps in (eps_a, eps_b))
    path = _great_circle(a, b, t) if spherical else torch.lerp(a, b, t)
    with evaluating(model):
        return model.push(path.flatten(0, 1)).unflatten(0, (len(path), steps))


def _great_circle(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """cos(tω) u + sin(tω) w in the plane of a and b, with u along a and w ⊥ u, and ω their angle; norms go linearly."""
    long = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    u, v = a / long[0], b / long[1]
    cosine = (u * v).sum(-1, keepdim=True)
    if not (cosine > -1 + 1e-6).all():
        raise ValueError("eps_a and eps_b must not be opposite, or 0: no way between them on the sphere is the shortest")
    across = v - cosine * u
    sine = across.norm(dim=-1, keepdim=True)
    angle = torch.atan2(sine, cosine)
    turned = (t * angle).cos() * u + (t * angle).sin() * across / sine.clamp(min=torch.finfo(a.dtype).tiny)
    return torch.lerp(*long, t) * turned


def _without_pixels(model: GenerativeModel, eps: Tensor) -> Tensor:
    """The noise with its block ε_x at 0, where the model has it beside latents."""
    blocks = model.noise_blocks
    parts = eps.split(list(blocks.values()), dim=1)
    latent = [torch.zeros_like(v) if name == "x" and len(blocks) > 1 else v for name, v in zip(blocks, parts, strict=True)]
    return torch.cat(latent, dim=1)


def _posteriors(vae: VAE, x: Tensor, batch: int = 500) -> Iterator:
    """q(z|x) of `batch` rows of x at a time, in evaluation mode."""
    _check_model(vae)
    with evaluating(vae):
        for part in vae.check_data(x, "x").split(batch):
            q = vae.encoder(part)
            if isinstance(q, Tensor):
                raise ValueError("vae must have an encoder that gives a distribution; this one gives points")
            yield q


def _entropy(q: Distribution) -> Tensor:
    return q.entropy() if is_diagonal(q) else -q.log_prob(q.rsample())


def _variance(q: Distribution) -> Tensor:
    return q.variance if is_diagonal(q) else torch.stack([q.rsample() for _ in range(DRAWS)]).var(0)


def _check_model(model: GenerativeModel) -> None:
    if not hasattr(model, "encoder") or not hasattr(model, "prior"):
        raise ValueError(f"model must have an encoder and a prior; got a {type(model).__name__}")
