r"""How large is Z? An energy says log p(x) = −E(x) − log Z; log Z = log ∫ e^{−E(x)} dx is what turns it into nats.

    on a grid       the integral itself, in one and two dimensions
    importance      Z = E_{p₀}[w],  w = e^{−E(x)}/p₀(x)                                        any base p₀
    annealed (AIS)  the same through bridges f_β = p₀^{1−β} e^{−βE}, 0 = β₀ < … < β_K = 1      Neal 2001

AIS carries draws x₀ ~ p₀ along the bridges by MALA moves, each of which keeps its f_β exactly, and adds up what every
step of β is worth: log w = Σ_k (β_k − β_{k−1}) u(x_{k−1}) with u = −E − log p₀. Then E[w] = Z however few and timid the
moves are; good ones make w vary less. Run backwards from exact samples of p, E[1/w] = 1/Z. By Jensen's inequality

    forward: E[log mean w] ≤ log Z         backward: E[−log mean 1/w] ≥ log Z

so the two are a sandwich around the truth (Grosse, Ghahramani, Adams 2015), in probability, too: either is on the wrong
side by more than b nats with a chance of at most e^{−b} (Markov). Energies are functions x (n, *event_shape) -> (n,) in
nats; +inf means p = 0.
"""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.metrics.density import draw, evaluate, home, log_density, negative_energy, seeds
from gmcourse.metrics.grid import Grid
from gmcourse.model import GenerativeModel, check_count
from gmcourse.sampling import MALA

Energy = Callable[[Tensor], Tensor]
Base = Distribution | GenerativeModel
Step = float | Callable[[float], float]
Stages = int | Sequence[float] | Tensor


class LogZ(NamedTuple):
    """An estimate of log Z in nats, its standard error, and how many of the weights count (`ess`).

    The standard error is sd(w)/(mean(w)·√n), right to first order: believe it if ess is at least some tens, and only
    forwards. Backwards from a base wider than the target the weights that were met do not show the tail that was not.
    """

    value: float
    stderr: float
    ess: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ± {self.stderr:.3f} (ESS {self.ess:.0f})"


@torch.no_grad()
def log_z_grid(energy: Energy, grid: Grid) -> float:
    """log ∫ e^{−E} dx over the grid's box, in nats. What lies outside the box is not seen: widen it to find out.

    >>> log_z_grid(lambda x: x.square() / 2, Grid([(-8.0, 8.0)]))     # ½ ln 2π
    0.9189...
    """
    return grid.log_integrate(negative_energy(energy, grid.nodes))


@torch.no_grad()
def log_z_importance(energy: Energy, base: Base, *, n: int = 10_000, seed: int = 0) -> LogZ:
    """log Z by n draws of `base`, which must have `sample` and `log_prob` and reach wherever e^{−E} does.

    The mean weight is unbiased for Z, so its logarithm is below log Z on average.
    """
    x = _start(energy, base, n, seed)
    return log_mean_weight(negative_energy(energy, x) - log_density(base, x, "base"))


def log_z_ais(
    energy: Energy, base: Base, *, n: int = 1000, stages: Stages = 100, step: Step = 0.1, moves: int = 1, seed: int = 0
) -> LogZ:
    """log Z by annealed importance sampling, n chains from `base` to the energy: below log Z on average.

    Args:
        stages: K equal steps of β, or the βs themselves, increasing from 0 to 1: put more where the bridges change fast.
            With K = 1 this is importance sampling.
        step: η of the MALA moves; a number, or a function of β where the target is much thinner than the base.
        moves: MALA moves on each bridge.

    Raises ValueError where the energy is not finite: base and target must have the same support.
    """
    at_start, on_the_way = seeds(seed, 2)
    x = _start(energy, base, n, at_start)
    return log_mean_weight(annealed_log_weights(energy, base, x, _ladder(stages), step=step, moves=moves, seed=on_the_way))


def log_z_ais_reverse(
    energy: Energy, base: Base, x: Tensor, *, stages: Stages = 100, step: Step = 0.1, moves: int = 1, seed: int = 0
) -> LogZ:
    """log Z by annealing exact samples x (n, *event_shape) of e^{−E}/Z back to `base`: above log Z on average.

    The options are those of `log_z_ais`. Samples that are not exact (a chain that has not mixed) void the bound. A base
    wider than the target makes the weights 1/w heavy-tailed: take more stages than forward.
    """
    if len(x) < 2:
        raise ValueError(f"x must hold at least 2 samples for a standard error; got {len(x)}")
    down = _ladder(stages)[::-1]
    inverse = log_mean_weight(
        annealed_log_weights(energy, base, _at_home(x, energy), down, step=step, moves=moves, seed=seed)
    )
    return inverse._replace(value=-inverse.value)


def annealed_log_weights(
    energy: Energy, base: Base, x: Tensor, betas: Sequence[float], *, step: Step, moves: int = 1, seed: int = 0
) -> Tensor:
    """log-weights (n,) of chains that start at x (n, *event_shape), exact at betas[0], and walk through the betas.

    Up from 0 to 1 they are log w, with E[w] = Z and E[log w] ≤ log Z; down from 1 to 0 they are −log w.
    """
    generator = torch.Generator(x.device).manual_seed(*seeds(seed, 1))  # x may have been drawn with `seed` itself
    log_w = torch.zeros(len(x), device=x.device, dtype=x.dtype)
    for here, there in pairwise(betas):
        if 0 < here < 1:
            mala = MALA(_bridge(energy, base, here), step=step(here) if callable(step) else step)
            x = mala.run(x, check_count(moves, "moves"), generator=generator)
        log_w += (there - here) * _log_ratio(energy, base, x)
    return log_w


def ess(log_weights: Tensor) -> float:
    """Effective sample size (Σ w)² / Σ w² of log-weights (n,): n if all are equal, 1 if one has all the weight.

    Raises ValueError for NaN or +inf, and if all the weights are zero.

    >>> ess(torch.tensor([0.0, 0.0, -torch.inf]))
    2.0
    """
    if log_weights.ndim != 1 or len(log_weights) == 0:
        raise ValueError(f"log_weights must have shape (n,), n > 0; got {tuple(log_weights.shape)}")
    if not (log_weights < torch.inf).all():
        raise ValueError("log_weights must be numbers or -inf; got NaN or +inf among them")
    if (highest := log_weights.max()) == -torch.inf:
        raise ValueError("log_weights must not all be -inf: no sample has any weight")
    w = (log_weights - highest).cpu().double().exp()
    return float(w.sum().square() / w.square().sum())


def _ladder(stages: Stages) -> list[float]:
    """The betas from 0 to 1."""
    if isinstance(stages, int | float):
        return torch.linspace(0, 1, check_count(stages, "stages") + 1, dtype=torch.float64).tolist()
    betas = [float(beta) for beta in stages]
    if len(betas) < 2 or (betas[0], betas[-1]) != (0, 1) or any(b <= a for a, b in pairwise(betas)):
        raise ValueError(f"stages must be a number or betas that increase from 0 to 1; got {betas}")
    return betas


def _bridge(energy: Energy, base: Base, beta: float) -> Energy:
    """The energy of p₀^{1−β} e^{−βE}; whatever a proposal meets there is for MALA to reject."""
    return lambda x: beta * evaluate(energy, x, "energy") - (1 - beta) * evaluate(base.log_prob, x, "base")


@torch.no_grad()
def _log_ratio(energy: Energy, base: Base, x: Tensor) -> Tensor:
    """u = −E − log p₀, shape (n,)."""
    log_ratio = negative_energy(energy, x) - log_density(base, x, "base")
    if (bad := ~log_ratio.isfinite()).any():
        raise ValueError(f"energy and base must have the same support; {int(bad.sum())} of {len(x)} chains left that of one")
    return log_ratio


def _start(energy: Energy, base: Base, n: int, seed: int) -> Tensor:
    """n draws of the base, where the energy computes."""
    if check_count(n) < 2:
        raise ValueError(f"n must be at least 2 for a standard error; got {n}")
    return _at_home(draw(base, n, seed, "base"), energy)


def _at_home(x: Tensor, energy: Energy) -> Tensor:
    there = home(energy)
    return x.detach() if there is None else x.detach().to(there)


def log_mean_weight(log_w: Tensor) -> LogZ:
    """log of the mean of the weights e^log_w, (n,), with its first-order standard error and the effective sample size."""
    n, log_w = len(log_w), log_w.cpu().double()
    count = ess(log_w)
    return LogZ(float(log_w.logsumexp(0)) - math.log(n), math.sqrt(max(0.0, 1 / count - 1 / n) * n / (n - 1)), count)
