r"""How far apart are two densities? Four answers, on a grid and by Monte Carlo.

    KL(p ‖ q) = E_p[log p − log q]                                   thesis (1.2)–(1.5); infinite where q = 0 < p
    JS(p, q)  = ½ KL(p ‖ m) + ½ KL(q ‖ m),   m = (p + q)/2            thesis (2.77); from 0 to ln 2
    TV(p, q)  = ½ ∫ |p − q| dx                                       from 0 to 1
    F(p ‖ q)  = E_p[½ ‖∇ log p − ∇ log q‖²]                          thesis (2.40), with its half

All are 0 only for p = q. With the posterior of a fair bet on where x came from, D = p/(p + q) of thesis (1.12),

    JS = E_m[ln 2 − H(D)],     TV = E_m[|2D − 1|],     H(D) = −D ln D − (1 − D) ln(1 − D)

so that both are means of something bounded: what the best classifier knows about the origin of a sample, in nats, and by
how much it beats a coin. These forms are what `js_mc` and `total_variation_mc` average, over samples of both sides.

Everything is in nats and computed from log-densities, so densities may underflow: they count as 0, and 0 log 0 = 0.
p and q are distributions, models with `log_prob` or functions x -> log p(x); a model whose `log_prob` is a lower bound
gives an upper bound of the forward KL, kl(data, model), and nothing for the reverse, kl(model, data).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gmcourse.metrics.density import Density, draw, log_density, score, seeds
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.likelihood import Estimate
from gmcourse.model import check_count

MISSING = 1e-3  # share of the mass that a grid may lose


@torch.no_grad()
def kl(p: Density, q: Density, grid: Grid) -> float:
    """KL(p ‖ q) in nats by quadrature, thesis (1.3); inf where q = 0 on a part of p's mass.

    Raises ValueError unless the grid holds p's mass to 1e-3, and for a q that integrates to more than 1. q may lie
    outside the grid.

    >>> from gmcourse.data.toy1d import Mixture1D
    >>> p, q = Mixture1D([1.0], [0.0], 1.0), Mixture1D([1.0], [1.0], 1.0)
    >>> kl(p, q, Grid.around(p, q))     # (μ_p − μ_q)² / 2σ²
    0.5000
    """
    log_p, log_q = held(p, grid, "p"), _below_one(q, grid, "q")
    return max(0.0, grid.integrate(_weighted(log_p, log_p - log_q)))


@torch.no_grad()
def js(p: Density, q: Density, grid: Grid) -> float:
    """Jensen–Shannon divergence in nats by quadrature, thesis (2.77), from 0 to ln 2.

    Raises ValueError unless the grid holds the mass of both to 1e-3.
    """
    log_p, log_q = held(p, grid, "p"), held(q, grid, "q")
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    value = grid.integrate(_weighted(log_m, _known_origin(log_p - log_q)))
    return min(max(0.0, value), math.log(2))


@torch.no_grad()
def total_variation(p: Density, q: Density, grid: Grid) -> float:
    """½ ∫ |p − q| by quadrature, from 0 to 1: the largest difference in the probability of any event.

    Raises ValueError unless the grid holds the mass of both to 1e-3.
    """
    log_p, log_q = held(p, grid, "p"), held(q, grid, "q")
    return min(1.0, 0.5 * grid.integrate((log_p.exp() - log_q.exp()).abs()))


@torch.no_grad()
def fisher(p: Density, q: Density, grid: Grid) -> float:
    """Fisher divergence E_p[½ ‖∇ log p − ∇ log q‖²] by quadrature, thesis (2.40); q need not be normalised.

    Raises ValueError unless the grid holds p's mass to 1e-3, and where a score is not finite on a part of that mass.
    Between densities with jumps it sees the smooth parts only.
    """
    log_p = held(p, grid, "p")
    seen = log_p.exp() > 0
    values = torch.zeros_like(log_p)
    values[seen] = log_p[seen].exp() * _half_square(p, q, grid.nodes[seen])
    return grid.integrate(values)


@torch.no_grad()
def kl_mc(p: Density, q: Density, *, n: int = 10_000, seed: int = 0) -> Estimate:
    """KL(p ‖ q) in nats by n samples of p, thesis (1.5), with its standard error.

    (inf, inf) if q gives one of them probability 0. Where q is much thinner than p, few samples carry the value and the
    standard error itself is not to be trusted.
    """
    x, log_p = _own_samples(p, n, seed, "p")
    return _mean([log_p - log_density(q, x, "q")])


@torch.no_grad()
def js_mc(p: Density, q: Density, *, n: int = 10_000, seed: int = 0) -> Estimate:
    """Jensen–Shannon divergence in nats by n samples of p and n of q, with its standard error; never outside [0, ln 2]."""
    return _both_sides(p, q, _known_origin, n, seed)


@torch.no_grad()
def total_variation_mc(p: Density, q: Density, *, n: int = 10_000, seed: int = 0) -> Estimate:
    """½ ∫ |p − q| by n samples of p and n of q, with its standard error; never outside [0, 1]."""
    return _both_sides(p, q, lambda log_ratio: (log_ratio / 2).tanh().abs(), n, seed)


@torch.no_grad()
def fisher_mc(p: Density, q: Density, *, n: int = 10_000, seed: int = 0) -> Estimate:
    """Fisher divergence E_p[½ ‖∇ log p − ∇ log q‖²] by n samples of p, thesis (2.40), with its standard error."""
    x, _ = _own_samples(p, n, seed, "p")
    return _mean([_half_square(p, q, x)])


def _known_origin(log_ratio: Tensor) -> Tensor:
    """ln 2 − H(D) of D = p/(p + q), from log p/q: from 0 where p = q to ln 2 where one of them is 0."""
    entr = torch.special.entr
    return math.log(2) - entr(log_ratio.sigmoid()) - entr((-log_ratio).sigmoid())


def _half_square(p: Density, q: Density, x: Tensor) -> Tensor:
    difference = (score(p, x, "p") - score(q, x, "q")).reshape(len(x), -1)
    if (bad := ~difference.isfinite().all(1)).any():
        found = f"{int(bad.sum())} points, the first is {x[bad][0].tolist()}"
        raise ValueError(f"the scores of p and q must be finite where p has mass; they are not at {found}")
    return 0.5 * difference.square().sum(1)


def _weighted(log_p: Tensor, values: Tensor) -> Tensor:
    """p · values, and 0 where p = 0 whatever the value is."""
    p = log_p.exp()
    return torch.where(p > 0, p * values, 0.0)


def held(p: Density, grid: Grid, name: str) -> Tensor:
    """log p at the nodes, if the grid holds all the mass."""
    log_p = log_density(p, grid.nodes, name)
    mass = grid.integrate(log_p.exp())
    if not abs(mass - 1) <= MISSING:
        raise ValueError(f"{name} must be a density whose mass the grid holds; its integral over the grid is {mass:.6g}. "
                         "Widen the box, take more points, put jumps on borders of cells, or normalise it")
    return log_p


def _below_one(q: Density, grid: Grid, name: str) -> Tensor:
    """log q at the nodes, if the grid does not hold more than all the mass."""
    log_q = log_density(q, grid.nodes, name)
    mass = grid.integrate(log_q.exp())
    if not mass <= 1 + MISSING:
        raise ValueError(f"{name} must be a normalised density on a grid that resolves it; "
                         f"its integral over the grid is {mass:.6g}")
    return log_q


def _own_samples(p: Density, n: int, seed: int, name: str) -> tuple[Tensor, Tensor]:
    """n samples of p and log p there, in float64 on the CPU."""
    if check_count(n) < 2:
        raise ValueError(f"n must be at least 2 for a standard error; got {n}")
    x = draw(p, n, seed, name).cpu().double()
    log_p = log_density(p, x, name)
    if (lost := log_p == -math.inf).any():
        raise ValueError(f"{name} gives probability 0 to {int(lost.sum())} of its own {n} samples")
    return x, log_p


def _both_sides(p: Density, q: Density, gain: Callable[[Tensor], Tensor], n: int, seed: int) -> Estimate:
    """E_m[gain(log p/q)], m = (p + q)/2, by n samples of each."""
    first, second = seeds(seed, 2)
    x, log_p = _own_samples(p, n, first, "p")
    y, log_q = _own_samples(q, n, second, "q")
    return _mean([gain(log_p - log_density(q, x, "q")), gain(log_density(p, y, "p") - log_q)])


def _mean(strata: list[Tensor]) -> Estimate:
    """The average of the strata's means, with its standard error."""
    k = len(strata)
    value = sum(float(values.mean()) for values in strata) / k
    if not math.isfinite(value):
        return Estimate(value, math.inf)
    return Estimate(value, math.sqrt(sum(float(values.var()) / len(values) for values in strata)) / k)
