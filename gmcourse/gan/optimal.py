r"""The critic that nobody can beat, and what it tells, where both densities are known (thesis 2.5.1).

For a fixed generator the critic's loss ∫ p ℓ₊(t) + q ℓ₋(t) dx is least where it is at each x by itself:

    D* = p/(p + q) = σ(log p/q)            V(G, D*) = E_p[log D*] + E_q[log(1 − D*)] = 2 JS(p, q) − 2 ln 2   (2.74)–(2.79)
    least squares   t* = (p − q)/(p + q)   hinge   t* = sign(p − q)

Wasserstein's critic is bound by its slope, not at each x. On the line, with the distribution functions P and Q,

    f*' = sign(Q − P),        W₁ = ∫ |P − Q| dx = E_p[f*] − E_q[f*]                          thesis (2.81)

f* goes on rising where p and q don't overlap, which is why it still says where to go when D* is flat.
"""

import torch
from torch import Tensor

from gmcourse.gan.objectives import Objective, objective
from gmcourse.metrics.density import Density
from gmcourse.metrics.divergences import held
from gmcourse.metrics.grid import Grid

LEVEL = 1e-12  # distribution functions that differ by less are the same, up to rounding


def optimal_discriminator(log_p: Tensor, log_q: Tensor) -> Tensor:
    """The log-odds log p/q of data against fakes, from both log-densities in nats, any shape; its sigmoid is D*, (2.74).

    ±inf where only one of the two has mass, 0 where neither has: nobody asks there.

    >>> optimal_discriminator(torch.tensor([0.0, -2.0]), torch.tensor([-1.0, -torch.inf]))
    tensor([1., inf])
    """
    nowhere = (log_p == -torch.inf) & (log_q == -torch.inf)
    return torch.where(nowhere, 0.0, log_p - log_q)


def optimal_critic(game: str | Objective, log_p: Tensor, log_q: Tensor) -> Tensor:
    """t* of the objective at points with these log-densities in nats, any shape; ValueError for Wasserstein's.

    >>> optimal_critic("least-squares", torch.tensor([0.0]), torch.tensor([-torch.inf]))
    tensor([1.])
    """
    name = objective(game).name
    log_odds = optimal_discriminator(log_p, log_q)
    match name:
        case "minimax" | "non-saturating":
            return log_odds
        case "least-squares":
            return (log_odds / 2).tanh()
        case "hinge":
            return log_odds.sign()
    raise ValueError(f"the best critic of objective {name!r} is no function of the densities at x; "
                     "on the line there is wasserstein_critic")


@torch.no_grad()
def wasserstein_critic(p: Density, q: Density, grid: Grid) -> Tensor:
    """The 1-Lipschitz f* of (2.81) at the nodes of a grid on the line, (m,), 0 at the first; flat where P = Q.

    Raises ValueError for a grid of the plane, or one that doesn't hold the mass of both to 1e-3.
    """
    if len(grid.shape) != 1:
        raise ValueError(f"grid must be on the line; got {len(grid.shape)} axes")
    below_p, below_q = (_shares(log, grid).cumsum(0) for log in (held(p, grid, "p"), held(q, grid, "q")))
    gap = (below_q - below_p)[:-1]  # at the borders between cells
    rise = torch.where(gap.abs() > LEVEL, gap.sign(), 0.0) * grid.cell
    return torch.cat([rise.new_zeros(1), rise.cumsum(0)])


@torch.no_grad()
def least_critic_loss(game: str | Objective, p: Density, q: Density, grid: Grid) -> float:
    """E_p[ℓ₊(t*)] + E_q[ℓ₋(t*)] by quadrature: the mean loss of the best critic for data p and fakes q.

    Minimax: 2 ln 2 − 2 JS, in nats; hinge: 2 − 2 TV; Wasserstein, on the line only: −W₁, in units of x. Raises ValueError
    for a grid that doesn't hold the mass of both to 1e-3.
    """
    game = objective(game)
    log_p, log_q = held(p, grid, "p"), held(q, grid, "q")
    best = wasserstein_critic(p, q, grid) if game.needs_lipschitz else optimal_critic(game, log_p, log_q)
    terms = [(_shares(log_p, grid), game.on_real(best)), (_shares(log_q, grid), game.on_fake(best))]
    return float(sum(torch.where(share > 0, share * loss, 0.0).sum() for share, loss in terms))


def game_value(p: Density, q: Density, grid: Grid) -> float:
    """V(G, D*) = E_p[log D*] + E_q[log(1 − D*)] in nats by quadrature: 2 JS(p, q) − 2 ln 2, thesis (2.79).

    >>> from gmcourse.data.toy1d import Mixture1D
    >>> p = Mixture1D([1.0], [0.0], 1.0)
    >>> game_value(p, p, Grid.around(p))        # the end of the game, (2.75)
    -1.3863
    """
    return -least_critic_loss("minimax", p, q, grid)


def _shares(log: Tensor, grid: Grid) -> Tensor:
    """The probability of each cell, (m,), which sum to 1."""
    share = log.exp() * grid.cell
    return share / share.sum()
