r"""The learned Stein discrepancy: a critic looks for where data and model disagree (slides; Grathwohl et al. 2020).

Stein's identity: E_{p_θ}[s_θ(x)·f(x) + tr ∇f(x)] = 0 for every field f that is tame far out. Under the data p it is

    E_p[s_θ·f + tr ∇f] = E_p[(s_θ − ∇ log p)·f]

so what is left of it shows where p_θ is not p. The critic f makes it large, at a price for the length of f; the energy makes
it small. Of the data's slope nobody need know, of Z neither, and no second derivative of E is taken:

    critic:  max_f  E_p[s_θ·f + tr ∇f] − λ E_p‖f‖²        at f* = (s_θ − ∇ log p)/(2λ), with value E_p‖s_θ − ∇ log p‖²/(4λ)
    energy:  min_θ  E_p[s_θ·f + tr ∇f]                    the gradient goes through s_θ alone

With λ = ½ that value is the Fisher divergence, thesis (2.40): the critic stands in for the second derivative of (2.41).
"""

import torch
from torch import Tensor, nn

from gmcourse.ebm.derivatives import axes, signs, slope_along, trainable_score
from gmcourse.ebm.energy import Energy
from gmcourse.model import Player, check_count, check_positive
from gmcourse.sampling.sampler import rows


class SteinDiscrepancy(nn.Module):
    """The objective of a game of two, critic and energy; called as `objective(energy, x)` it is the energy's loss, (n,).

    An EBM asks it for its `players`. The mean of the loss is the discrepancy as far as the critic sees it.

    Args:
        critic: f, x (n, *event_shape) -> same shape; points on the line come to it as (n, 1). Any activation will do.
        penalty: λ, the price of ‖f‖².
        projections: random directions for tr ∇f; None takes the exact trace, at d backward passes in one.
        every: the energy moves on each `every`-th step, the critic on all of them.

    >>> from gmcourse.nets.mlp import MLP
    >>> SteinDiscrepancy(MLP(2, 2))(lambda x: x.square().sum(1) / 2, torch.zeros(5, 2)).shape
    torch.Size([5])
    """

    def __init__(self, critic: nn.Module, *, penalty: float = 0.5, projections: int | None = None, every: int = 5):
        super().__init__()
        self.critic, self.penalty = critic, check_positive(penalty, "penalty")
        self.projections = projections if projections is None else check_count(projections, "projections")
        self.every = check_count(every, "every")

    def forward(self, energy: Energy, x: Tensor) -> Tensor:
        """s_θ·f + tr ∇f with the critic held still, x (n, *event_shape) -> (n,)."""
        with torch.no_grad():
            f, trace = self.field(x)
        return rows(trainable_score(energy, x) * f).sum(1) + trace

    def critic_loss(self, energy: Energy, x: Tensor) -> Tensor:
        """−(s_θ·f + tr ∇f) + λ ‖f‖² with the energy held still, x (n, *event_shape) -> (n,)."""
        f, trace = self.field(x)
        with torch.no_grad():
            s = trainable_score(energy, x)
        return self.penalty * rows(f).square().sum(1) - rows(s * f).sum(1) - trace

    def field(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """f(x), with the shape of x, and tr ∇f, (n,)."""
        with torch.enable_grad():
            at = x.detach().requires_grad_()
            f = self.critic(at if at.ndim > 1 else at[:, None])
            if f.numel() != at.numel() or len(f) != len(at):
                raise ValueError(f"critic must return the shape of x, {tuple(x.shape)}; got {tuple(f.shape)}")
            f = f.reshape(at.shape)
        v = axes(at) if self.projections is None else signs(self.projections, at)
        slopes = slope_along(f, at, v)
        return (f if torch.is_grad_enabled() else f.detach()), slopes.sum(0) if self.projections is None else slopes.mean(0)

    def players(self, model) -> list[Player]:
        """The critic, then the energy of `model`, an EBM."""
        return [
            Player("critic", self.critic.parameters, lambda x: self.critic_loss(model.energy, x)),
            Player("energy", model.energy.parameters, model.loss, every=self.every),
        ]
