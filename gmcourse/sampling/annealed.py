r"""Annealed Langevin dynamics: sample a blurred law first, then sharper and sharper ones (Song & Ermon 2019, algorithm 1).

    p_σ = law of x + σ ε,   s(x, σ) = ∇ log p_σ(x),    σ₁ > σ₂ > … > σ_L
    at each level, `each` times:   x ← x + (η_i/2) s(x, σ_i) + √η_i ω,     η_i = η σ_i²/σ_L²

A plain chain hardly crosses the desert between two modes, so the share of each mode stays that of the start. In p_{σ₁} there
is no desert: mass finds its level there, and keeps it while the modes part. η_i ∝ σ_i² keeps the step at the same fraction
of the blur. The last samples still carry noise of width σ_L; one step of Tweedie's formula, x + σ_L² s(x, σ_L), takes it
out.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from tqdm.auto import tqdm

from gmcourse.model import check_count, check_positive
from gmcourse.sampling.langevin import ULA


class AnnealedLangevin:
    """ULA through falling noise levels; ends after `steps` = len(sigmas)·each evaluations of the score, one more to denoise.

    Args:
        score: (x, sigma) -> ∇ log p_σ(x), shape of x; sigma comes as a float.
        sigmas: noise levels, positive and falling.
        step: η of the last level.
        each: steps per level.
        denoise: whether to end with x + σ_L² s(x, σ_L).
    """

    def __init__(
        self,
        score: Callable[[Tensor, float], Tensor],
        sigmas: Sequence[float] | Tensor,
        *,
        step: float,
        each: int,
        denoise: bool = True,
    ):
        self.sigmas = torch.as_tensor(sigmas, dtype=torch.float64).tolist()
        falling = all(a > b for a, b in zip(self.sigmas, self.sigmas[1:], strict=False))
        if not self.sigmas or not falling or not 0 < self.sigmas[-1] <= self.sigmas[0] < torch.inf:
            raise ValueError(f"sigmas must be positive and strictly falling; got {self.sigmas}")
        self.score, self.denoise, self.each = score, denoise, check_count(each, "each")
        self.eta = check_positive(step, "step")

    @property
    def steps(self) -> int:
        """Langevin steps of one run."""
        return len(self.sigmas) * self.each

    def run(self, x: Tensor, *, generator: torch.Generator | None = None, progress: bool = False) -> Tensor:
        """Samples from the start x (n, *event_shape), about as wide as σ₁; same shape, without gradients.

        Raises FloatingPointError, by `ULA.run`, if chains diverge.
        """
        last = self.sigmas[-1]
        for sigma in tqdm(self.sigmas, desc="AnnealedLangevin", leave=False, disable=not progress):
            level = ULA(score=partial(self._at, sigma), step=self.eta * (sigma / last) ** 2)
            x = level.run(x, self.each, generator=generator)
        with torch.no_grad():
            return x + last**2 * self.score(x, last) if self.denoise else x

    def _at(self, sigma: float, x: Tensor) -> Tensor:
        return self.score(x, sigma)
