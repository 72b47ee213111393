r"""Where a tilted model is: its negatives, for training and for sampling (thesis 4.3).

    p(x) = q(x) e^{−E(x)} / Z          q the base, a transport: x = push(ε), ε ~ N(0, I)
    h(ε) ∝ e^{−U(ε)},  U(ε) = E(push(ε)) + ½‖ε‖²                                          thesis (4.8), (4.19)

Whatever push does, ε ~ h makes x = push(ε) ~ p: a mean over p is a mean over q weighted by e^{−E}, and over ε weighted the
same. So chains run where the base is one round hill, without a density of x and without a Jacobian:

    ε' = ε − (η/2) ∇U(ε) + √η ω,  ω ~ N(0, I)                                             thesis (4.10)

For x = μ + σε a step of η there is one of σ²η in x: one step length fits all coordinates (thesis 4.3.3). Chains don't carry
mass from one basin to another, unless they are offered fresh noise now and then (`jump`); weighted draws of the base do, as
long as a few of them do not carry all the weight:

    p(x) ≈ Σ_i w_i δ(x − x_i),  x_i ~ q,  w_i ∝ e^{−E(x_i)}
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy, values
from gmcourse.model import GenerativeModel, StandardNormal, check_count, check_positive, evaluating
from gmcourse.sampling import ULA, Sampler


class Weighted(NamedTuple):
    """Points x (m, *event_shape) that stand for a law with weights w (m,), which sum to 1."""

    x: Tensor
    weights: Tensor

    @classmethod
    def evenly(cls, x: Tensor) -> "Weighted":
        """All of the same weight."""
        return cls(x, x.new_full((len(x),), 1 / len(x)))


class Negatives(nn.Module, ABC):
    """A way to draw from q(x) e^{−E(x)}/Z, without gradients."""

    @abstractmethod
    def forward(
        self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None
    ) -> Weighted:
        """Points that stand for the tilted law, n of them or more."""

    @abstractmethod
    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """ε ~ h, all of the same weight, (n, D)."""


def noise_energy(base: GenerativeModel, energy: Energy) -> Energy:
    """U(ε) = E(push(ε)) + ½‖ε‖², ε (n, D) -> (n,) in nats: −log h but for a constant, thesis (4.8), (4.19).

    >>> from gmcourse.model import StandardNormal
    >>> noise_energy(StandardNormal(2), lambda x: x.sum(1))(torch.ones(1, 2))     # 2 + ½·2
    tensor([3.])
    """
    return lambda eps: values(energy, base.push(eps)) + 0.5 * eps.square().sum(1)


@torch.no_grad()
def carried(base: GenerativeModel, eps: Tensor) -> Tensor:
    """push(ε) in evaluation mode, without a graph."""
    with evaluating(base):
        return base.push(eps)


class NoiseChains(Negatives):
    """Langevin, or another sampler, in the space of the noise.

    Args:
        steps: transitions of every chain.
        step: η; Langevin is stable for η < 4/L, L the largest curvature of U, which is at least 1.
        sampler: `sampler(energy, step=)`, of gmcourse.sampling.
        clip: longest gradient a chain may feel; for samplers that have one.
        jumps: after the steps, so many times, each chain is offered fresh noise (see `jump`): what carries mass between
            basins, as long as the base hits the tilted law now and then.
        chains: size of a replay buffer of ε, so that training goes on with chains that have come far; 0 starts anew.
        restart: share of those that begin anew each time.
        size: D, length of the base's noise; only a buffer needs it.

    Samples always begin at fresh noise.
    """

    def __init__(
        self,
        steps: int,
        step: float,
        *,
        sampler: Callable[..., Sampler] = ULA,
        clip: float | None = None,
        jumps: int = 0,
        chains: int = 0,
        restart: float = 0.05,
        size: int | None = None,
    ):
        super().__init__()
        self.steps, self.step, self.sampler = check_count(steps, "steps"), check_positive(step, "step"), sampler
        self.jumps = check_count(jumps, "jumps") if jumps else 0
        self.options = {} if clip is None else {"clip": check_positive(clip, "clip")}
        if chains and size is None:
            raise ValueError("size, the length of the base's noise, must be given for a buffer of chains; got None")
        self.buffer = ReplayBuffer(StandardNormal(size), chains, restart) if chains else None

    def forward(
        self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None
    ) -> Weighted:
        """Where n chains end, from the buffer if there is one, in training mode; all of the same weight."""
        kept = self.buffer is not None and self.training
        eps = self.buffer.draw(n, generator=generator) if kept else base.noise(n, generator=generator)
        ends = self.run(base, energy, eps, generator)
        if kept:
            self.buffer.put(ends)
        return Weighted.evenly(carried(base, ends))

    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n chains from fresh noise."""
        return self.run(base, energy, base.noise(check_count(n), generator=generator), generator)

    def run(
        self, base: GenerativeModel, energy: Energy, eps: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Where chains that begin at ε (n, D) end, (n, D). Raises FloatingPointError if they diverge."""
        with held_still(energy), held_still(base):
            chains = self.sampler(noise_energy(base, energy), step=self.step, **self.options)
            eps = chains.run(eps, self.steps, generator=generator)
            for _ in range(self.jumps):
                eps = jump(base, energy, eps, generator)
            return eps


@torch.no_grad()
def jump(base: GenerativeModel, energy: Energy, eps: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A Metropolis step of every chain ε (n, D) with fresh noise for a proposal; it keeps h exactly.

    As the noise is N(0, I) in both, the ratio of the laws is that of the tilts: min(1, e^{E(x) − E(x')}).
    """
    fresh = base.noise(len(eps), generator=generator).to(eps)
    log_ratio = values(energy, base.push(eps)) - values(energy, base.push(fresh))
    u = torch.rand(len(eps), generator=generator, device=eps.device, dtype=eps.dtype)
    return torch.where((u.log() < log_ratio)[:, None], fresh, eps)


class Importance(Negatives):
    """Draws of the base, weighted by e^{−E}: self-normalised importance sampling.

    Args:
        pool: draws for each negative, or for each sample that is picked from them.
    """

    def __init__(self, pool: int = 4):
        super().__init__()
        self.pool = check_count(pool, "pool")

    def forward(
        self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None
    ) -> Weighted:
        """pool · n draws of the base, with their weights."""
        return Weighted(*self._weighted(base, energy, n, generator)[1:])

    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n picked from pool · n, with replacement, with probability w (sampling-importance-resampling)."""
        eps, _, weights = self._weighted(base, energy, n, generator)
        return eps[torch.multinomial(weights, n, replacement=True, generator=generator)]

    @torch.no_grad()
    def _weighted(
        self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ε of the base, where it leads, and its weight."""
        eps = base.noise(self.pool * check_count(n), generator=generator)
        x = carried(base, eps)
        with held_still(energy):
            return eps, x, (-values(energy, x)).softmax(0)
