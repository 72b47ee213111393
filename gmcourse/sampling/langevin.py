r"""Langevin dynamics: follow the score, add noise.

    dx = ∇ log p(x) dt + √(2T) dw            has p^{1/T} as its stationary law                     thesis (1.15), (1.16)
    x' = x + (η/2) s(x) + √(ηT) ω            its Euler step, ω ~ N(0, I), s = ∇ log p = −∇E        thesis (1.17), (1.18)

The thesis writes α = η/2. Left alone (ULA) the Euler step samples a slightly wrong law: on a Gaussian of precision λ the
variance comes out as T/(λ (1 − ηλ/4)) instead of T/λ, and for η > 4/λ the chain runs away. Taken as the *proposal* of a
Metropolis test (MALA) the law is p^{1/T} at any step size, and too large a step shows as rejections:

    accept with probability min(1, e^{−(E(x')−E(x))/T} q(x|x') / q(x'|x)),     q(x'|x) = N(x'; x + (η/2) s(x), ηT I)

With a preconditioner M = L Lᵀ the same happens in the coordinates y = L⁻¹x, in which the score is Lᵀs.
"""

import math

import torch

from gmcourse.model import check_positive
from gmcourse.sampling.preconditioner import Matrix, Preconditioner
from gmcourse.sampling.sampler import Sampler, State, metropolis, normal_like, rows
from gmcourse.sampling.target import Function


class ULA(Sampler):
    """Unadjusted Langevin: x' = x + (η/2) s(x) + √(ηT) ω, thesis (1.18) with α = η/2.

    Args:
        energy, score: exactly one of E, x (n, *event_shape) -> (n,), and ∇ log p, x -> same shape.
        step: η. Its bias is of order η; stable below 4/L, L the largest curvature of E (of E in y with a preconditioner).
        temperature: T, samples p^{1/T}; 0 is gradient descent.
        clip: longest score a chain may feel; clipping changes the law that is sampled (not so in MALA).
        preconditioner: M, a positive diagonal (d,) or a symmetric positive definite (d, d) on the flattened event.

    >>> x = ULA(lambda x: x.square().sum(1) / 2, step=0.1).run(torch.zeros(1000, 2), 200)
    """

    def __init__(
        self,
        energy: Function | None = None,
        *,
        score: Function | None = None,
        step: float,
        temperature: float = 1.0,
        clip: float | None = None,
        preconditioner: Matrix = None,
    ):
        if (energy is None) == (score is None):
            raise ValueError(f"give exactly one of energy and score; got {'neither' if energy is None else 'both'}")
        super().__init__(
            energy, score, temperature=temperature, preconditioner=Preconditioner(preconditioner), clip=clip
        )
        self.eta = check_positive(step, "step")

    def step(self, state: State, generator: torch.Generator | None = None) -> State:
        """x' = x + L((η/2) Lᵀs(x) + √(ηT) ω)."""
        drift = self.drift(self.target.score(state.x)) if state.drift is None else state.drift
        omega = normal_like(state.x, generator)
        move = self.eta / 2 * drift + math.sqrt(self.eta * self.temperature) * omega
        return State(state.x + self.preconditioner.push(move))


class MALA(Sampler):
    """Metropolis-adjusted Langevin: ULA's step as a proposal that is tested, so that p^{1/T} is kept exactly.

    Args:
        energy: E, x (n, *event_shape) -> (n,).
        score: −∇E where it is known in closed form; any other field makes worse proposals, never a wrong law.
        step: η. Acceptance falls as η grows; about 0.57 is best in high dimension.
        temperature: T > 0, samples p^{1/T}.
        clip: longest score a chain may feel, in the proposal and in the test, which stays exact.
        preconditioner: M, a positive diagonal (d,) or a symmetric positive definite (d, d) on the flattened event.

    >>> trace = MALA(lambda x: x.square().sum(1) / 2, step=0.5).trace(torch.zeros(100, 2), 200)
    >>> trace.x.shape, trace.acceptance.shape
    (torch.Size([200, 100, 2]), torch.Size([100]))
    """

    def __init__(
        self,
        energy: Function,
        *,
        score: Function | None = None,
        step: float,
        temperature: float = 1.0,
        clip: float | None = None,
        preconditioner: Matrix = None,
    ):
        check_positive(temperature, "temperature")
        super().__init__(
            energy, score, temperature=temperature, preconditioner=Preconditioner(preconditioner), clip=clip
        )
        self.eta = check_positive(step, "step")

    def step(self, state: State, generator: torch.Generator | None = None) -> State:
        """Propose x' = x + L((η/2) Lᵀs(x) + √(ηT) ω); the way back would need the noise −ω', ω' = ω + ½√(η/T) Lᵀ(s + s')."""
        omega = normal_like(state.x, generator)
        move = self.eta / 2 * state.drift + math.sqrt(self.eta * self.temperature) * omega
        new = self.evaluate(state.x + self.preconditioner.push(move))
        back = omega + 0.5 * math.sqrt(self.eta / self.temperature) * (state.drift + new.drift)
        log_ratio = (state.energy - new.energy) / self.temperature
        log_ratio = log_ratio + 0.5 * rows(omega.square() - back.square()).sum(1)
        return metropolis(state, new, log_ratio, generator)
