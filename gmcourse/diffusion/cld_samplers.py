r"""Back through a critically damped Langevin diffusion, given the score s(u, t) of the velocity (Dockhorn et al. 2021).

With δ = B(t) − B(s) on the clock B = ∫β, one step from t to s < t is

    Euler–Maruyama   u − δ [A u + (0, 2Γ s)] … with the signs of slides (36), + √(2Γδ) z in v                weak order 1
    SSCS             half of 𝒜, all of 𝒮, half of 𝒜     (symmetric splitting)                          order 1, or 2
        𝒜   dx = −M⁻¹v dB,  dv = x dB − Γ M⁻¹ v dB + √(2Γ) dw       linear: solved exactly, as (34) with x turned round
        𝒮   dv = 2Γ [s + M⁻¹ v] dB                                  what is left; nothing where u is at rest
    flow             Heun's rule on the probability flow                                                      order 2

𝒮 by Euler's rule costs one score and is of order 1, with a small error since 𝒮 is small; by the midpoint rule it costs two
and the whole is of order 2. Each half of 𝒜 takes δ/2 on the clock, so that together they take δ whatever β(t) does; a
half step of h β(t)/2 taken twice, as in the authors' code, is right only where β is constant.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from gmcourse.diffusion.cld import CLD, VelocityScore
from gmcourse.sampling.ode import heun, same_shape
from gmcourse.sampling.sampler import normal_like


class CLDSampler(ABC):
    """What the samplers share. `evaluations` says how often a step asks for the score.

    Args:
        cld: the forward process.
        score: u (n, 2, *event_shape), t (n,) -> ∇_v log p_t(u), (n, *event_shape).

    >>> from gmcourse.diffusion.samplers import run
    >>> cld = CLD()
    >>> rest = SSCS(cld, lambda u, t: -cld.mass_inverse * u[:, 1])     # data N(0, I) with velocities at rest
    >>> run(rest.step, cld.prior(2).sample(5), [1.0, 0.5, 0.001]).shape
    torch.Size([5, 2, 2])
    """

    evaluations = 1

    def __init__(self, cld: CLD, score: VelocityScore):
        self.cld, self.score = cld, score

    @abstractmethod
    def step(self, u: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """u_s from u_t, 1 ≥ t > s ≥ 0, (n, 2, *event_shape); ValueError for other times or a score of another shape."""

    def _elapsed(self, t: float, s: float) -> float:
        if not 0 <= s < t <= 1:
            raise ValueError(f"t and s must satisfy 1 ≥ t > s ≥ 0; got t = {t}, s = {s}")
        return self.cld.clock(t) - self.cld.clock(s)

    def _score(self, u: Tensor, t: float) -> Tensor:
        return same_shape(self.score(u, torch.full((len(u),), t, dtype=u.dtype, device=u.device)), u[:, 0], "score")


class CLDEuler(CLDSampler):
    """Euler–Maruyama of slides (36): weak order 1, one evaluation."""

    def step(self, u: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """u − δ A u, and v + 2Γδ s + √(2Γδ) z."""
        delta, friction = self._elapsed(t, s), 2 * self.cld.gamma
        x, v = (u - delta * self.cld.motion(u)).unbind(1)
        v = v + friction * delta * self._score(u, t) + (friction * delta) ** 0.5 * normal_like(v, generator)
        return torch.stack([x, v], 1)


class SSCS(CLDSampler):
    """Symmetric splitting CLD sampler; `order` 1 is the published one, one evaluation, 2 takes two."""

    def __init__(self, cld: CLD, score: VelocityScore, *, order: int = 1):
        super().__init__(cld, score)
        if order not in (1, 2):
            raise ValueError(f"order must be 1 or 2; got {order}")
        self.evaluations = order

    def step(self, u: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """Half of 𝒜, 𝒮 with the score at the middle of the step, half of 𝒜."""
        half, middle = self._elapsed(t, s) / 2, (t + s) / 2
        u = self._linear(u, half, generator)
        kicked = u
        for part in (2 * half,) if self.evaluations == 1 else (half, 2 * half):
            kicked = self._kicked(u, kicked, middle, part)
        return self._linear(kicked, half, generator)

    def _linear(self, u: Tensor, delta: float, generator: torch.Generator | None) -> Tensor:
        """𝒜 for δ on the clock, in law exact: the forward process of (−x, v)."""
        clock = torch.tensor(delta, dtype=torch.float64)
        turn = torch.tensor([[1.0, -1.0], [-1.0, 1.0]], dtype=torch.float64)
        mean = (turn * self.cld.propagator(clock)).to(u)
        a, b, c = (float(part) for part in self.cld.spread(clock).factor())
        width = torch.tensor([[a, 0.0], [-b, c]], dtype=u.dtype, device=u.device)
        return torch.einsum("ij,nj...->ni...", mean, u) + torch.einsum("ij,nj...->ni...", width, normal_like(u, generator))

    def _kicked(self, u: Tensor, at: Tensor, t: float, delta: float) -> Tensor:
        """v + 2Γδ [s + M⁻¹ v] with the slope seen at another place."""
        slope = self._score(at, t) + self.cld.mass_inverse * at[:, 1]
        return torch.stack([u[:, 0], u[:, 1] + 2 * self.cld.gamma * delta * slope], 1)


class CLDFlow(CLDSampler):
    """The probability flow by Heun's rule: order 2, two evaluations, no noise."""

    evaluations = 2

    def step(self, u: Tensor, t: float, s: float, generator: torch.Generator | None = None) -> Tensor:
        """Heun's rule."""
        self._elapsed(t, s)
        field = self.cld.probability_flow(self.score)
        start, end = (torch.tensor(time, dtype=u.dtype, device=u.device) for time in (t, s))
        return heun(lambda time, u: field(u, time), u, start, end)
