r"""Adam that does not believe in outliers: gradients are clipped, one by one, to what they used to be.

    g ← clamp(g, −c √v̂, c √v̂),    v̂ = v / (1 − β₂ᵏ)        Adam's second moment, before this gradient

then Adam's step. "We clip training gradients that are more than 3 standard deviations from the 2nd-order Adam parameters"
(thesis 4.4.3, after Du & Mordatch 2019): now and then a chain is thrown far off, and one such gradient would stay in v for
1/(1 − β₂) steps. The first gradient is taken as it is, and so is any where v̂ = 0: there is nothing yet to compare it with,
and a bound of 0 would hold the weight for ever.
"""

from collections.abc import Iterable

import torch
from torch import nn

from gmcourse.model import check_positive


class ClippedAdam(torch.optim.Adam):
    """`torch.optim.Adam` with every gradient clipped to `deviations` times √v̂; `.grad` is changed in place.

    The bounds come from Adam's own state, so that a state dict resumes it. For `fit`:
    `optimizer=partial(ClippedAdam, betas=(0.99, 0.999), weight_decay=3e-5)`. Raises ValueError for deviations that are not
    positive.

    >>> w = torch.nn.Parameter(torch.zeros(1))
    >>> adam = ClippedAdam([w])
    >>> for g in (1.0, 1000.0):
    ...     w.grad = torch.tensor([g])
    ...     adam.step()
    >>> w.grad
    tensor([3.])
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter] | Iterable[dict],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        deviations: float = 3.0,
    ):
        self.deviations = check_positive(deviations, "deviations")
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        self.register_step_pre_hook(_clip)


@torch.no_grad()
def _clip(adam: ClippedAdam, *arguments) -> None:
    """Clip all gradients that have a second moment to compare with."""
    for group in adam.param_groups:
        known = [p for p in group["params"] if p.grad is not None and adam.state[p]]
        if not known:
            continue
        grads, states = [p.grad for p in known], [adam.state[p] for p in known]
        factors = [adam.deviations / (1 - group["betas"][1] ** float(s["step"])) ** 0.5 for s in states]
        bounds = torch._foreach_mul(torch._foreach_sqrt([s["exp_avg_sq"] for s in states]), factors)
        for bound in bounds:
            bound.masked_fill_(bound == 0, torch.inf)
        torch._foreach_minimum_(grads, bounds)
        torch._foreach_maximum_(grads, torch._foreach_neg(bounds))
