r"""Hamiltonian Monte Carlo: give every chain a push, let it roll, test where it ends.

    H(x, v) = E(x) + ½‖v‖²,     v ~ N(0, T I)
    leapfrog, `leaps` times:    v ← v + (ε/2) s(x),   x ← x + ε v,   v ← v + (ε/2) s(x)
    accept with probability     min(1, e^{−(H(x', v') − H(x, v))/T})

The exact motion would keep H, and every end would be accepted. Leapfrog is reversible and keeps volume, so the test needs no
more than H; it errs by order ε² in H, and is stable for ε < 2/√L. One leap of length ε is MALA with η = ε². With a mass
matrix W all this happens in coordinates where W is the identity: L Lᵀ = W⁻¹, x ← x + ε L v, v ← v + (ε/2) Lᵀ s(x).

Where `leaps`·ε is a multiple of a Gaussian's half period π/√λ, chains come back to where they were: vary one of the two.
"""

import math

import torch
from torch import Tensor

from gmcourse.model import check_count, check_positive
from gmcourse.sampling.preconditioner import Matrix, Preconditioner
from gmcourse.sampling.sampler import Sampler, State, metropolis, normal_like, rows
from gmcourse.sampling.target import Function


class HMC(Sampler):
    """Hamiltonian Monte Carlo with leapfrog; keeps p^{1/T} exactly (Neal 1993).

    Args:
        energy: E, x (n, *event_shape) -> (n,).
        score: −∇E where it is known in closed form.
        step: ε, the length of one leap (the root of Langevin's η).
        leaps: score evaluations per step.
        temperature: T > 0, samples p^{1/T}.
        mass: W, a positive diagonal (d,) or a symmetric positive definite (d, d); best near the precision of p.

    >>> x = HMC(lambda x: x.square().sum(1) / 2, step=0.3).run(torch.zeros(1000, 2), 20)
    """

    def __init__(
        self,
        energy: Function,
        *,
        score: Function | None = None,
        step: float,
        leaps: int = 10,
        temperature: float = 1.0,
        mass: Matrix = None,
    ):
        check_positive(temperature, "temperature")
        inverse_mass = Preconditioner(mass, inverse=True, name="mass")
        super().__init__(energy, score, temperature=temperature, preconditioner=inverse_mass)
        self.epsilon, self.leaps = check_positive(step, "step"), check_count(leaps, "leaps")

    def step(self, state: State, generator: torch.Generator | None = None) -> State:
        """v ~ N(0, T I), roll, accept by the change of H."""
        v = math.sqrt(self.temperature) * normal_like(state.x, generator)
        new, end = self.leapfrog(state, v)
        log_ratio = (self.hamiltonian(state, v) - self.hamiltonian(new, end)) / self.temperature
        return metropolis(state, new, log_ratio, generator)

    def leapfrog(self, state: State, v: Tensor) -> tuple[State, Tensor]:
        """Where chains at `state` that are pushed with v, shape of x, are after all leaps: the new state and the new v."""
        x, v = state.x, v + self.epsilon / 2 * state.drift
        for _ in range(self.leaps - 1):
            x = x + self.epsilon * self.preconditioner.push(v)
            v = v + self.epsilon * self.drift(self.target.score(x))
        new = self.evaluate(x + self.epsilon * self.preconditioner.push(v))
        return new, v + self.epsilon / 2 * new.drift

    def hamiltonian(self, state: State, v: Tensor) -> Tensor:
        """H(x, v) = E(x) + ½‖v‖², shape (n,), in nats."""
        return state.energy + 0.5 * rows(v).square().sum(1)
