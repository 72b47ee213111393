r"""Where a tilted model is: its negatives, for training and for sampling (thesis 4.3).

    p(x) = q(x) e^{−E(x)} / Z          q the base, a transport: x = push(ε), ε ~ N(0, I)
    h(ε) ∝ e^{−U(ε)},  U(ε) = E(push(ε)) + ½‖ε‖²                                          thesis (4.8), (4.19)

Whatever push does, ε ~ h makes x = push(ε) ~ p: a mean over p is a mean over q weighted by e^{−E}, and over ε weighted the
same. So chains run where the base is one round hill, without a density of x and without a Jacobian:

    ε' = ε − (η/2) ∇U(ε) + √η ω,  ω ~ N(0, I)                                             thesis (4.10)

For x = μ + σε a step of η there is one of σ²η in x: one step length fits all coordinates (thesis 4.3.3), as far as the base
stretches them alike: how large it may be, see `gmcourse.compositions.stability`. Chains don't carry mass from one basin to
another, unless they are offered fresh noise now and then (`jump`); weighted draws of the base do, as long as a few of them
do not carry all the weight:

    p(x) ≈ Σ_i w_i δ(x − x_i),  x_i ~ q,  w_i ∝ e^{−E(x_i)}
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from inspect import signature
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gmcourse.compositions.persistence import Persistence
from gmcourse.compositions.stability import noise_blocks, warn_above
from gmcourse.ebm.contrastive import held_still
from gmcourse.ebm.energy import Energy, values
from gmcourse.model import GenerativeModel, check_count, check_positive, evaluating
from gmcourse.sampling import ULA, Sampler

LEAST = 256  # draws of the base among which few samples are picked: of fewer the law would be the base's, hardly tilted
COLLAPSED = 5  # effective draws, below which a mean over weighted draws says nothing


class Weighted(NamedTuple):
    """Points x (m, *event_shape) that stand for a law with weights w (m,), which sum to 1."""

    x: Tensor
    weights: Tensor

    @classmethod
    def evenly(cls, x: Tensor) -> "Weighted":
        """All of the same weight."""
        return cls(x, x.new_full((len(x),), 1 / len(x)))


class Negatives(nn.Module, ABC):
    """A way to draw from q(x) e^{−E(x)}/Z, without gradients; `nfe` says how often base and energy are asked per draw."""

    nfe: int

    @abstractmethod
    def forward(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Weighted:
        """Points that stand for the tilted law, n of them or more."""

    @abstractmethod
    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """ε ~ h, all of the same weight, (n, D)."""


class Even(Negatives):
    """Negatives that are what `draw` gives, in training as in sampling."""

    def forward(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Weighted:
        """Where n draws lead; all of the same weight."""
        return Weighted.evenly(carried(base, self.draw(base, energy, n, generator)))


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
        step: η, or one for each of the base's `noise_blocks`, e.g. {"z": 0.003, "x": 0.5}; Langevin is stable for η < 4/L, L
            the largest curvature of U, 1 where E is flat.
        sampler: `sampler(energy, step=)`, of gmcourse.sampling; with a `preconditioner` if there is a step for each block.
        clip: longest gradient a chain may feel; for samplers that have one.
        jumps: after the steps, so many times, each chain is offered fresh noise (see `jump`): what carries mass between
            basins, as long as the base hits the tilted law now and then.
        width: finest detail of e^{−E} in x, the narrowest mode's standard deviation; the first run then warns of every block
            whose step is above Langevin's bound, `stability.step_bounds`, at most draws of the base.
        persistence: a buffer, so that training goes on with chains that have come far; None starts anew.
        sample_steps: transitions of the chains of `draw`, which begin at fresh noise; `steps` unless given.
    """

    def __init__(
        self,
        steps: int,
        step: float | Mapping[str, float],
        *,
        sampler: Callable[..., Sampler] = ULA,
        clip: float | None = None,
        jumps: int = 0,
        width: float | None = None,
        persistence: Persistence | None = None,
        sample_steps: int | None = None,
    ):
        super().__init__()
        self.sample_steps = check_count(steps if sample_steps is None else sample_steps, "sample_steps")
        self.steps, self.sampler, self.persistence = check_count(steps, "steps"), sampler, persistence
        if isinstance(step, Mapping):
            self.step = {name: check_positive(eta, f"step of {name}") for name, eta in step.items()}
            if "preconditioner" not in signature(sampler).parameters:
                name = getattr(sampler, "__name__", sampler)
                raise ValueError(f"sampler must take a preconditioner for one step per block; {name} does not")
        else:
            self.step = check_positive(step, "step")
        self.jumps = check_count(jumps, "jumps") if jumps else 0
        self.nfe = self.sample_steps + 2 * self.jumps
        self.width = None if width is None else check_positive(width, "width")
        self.options = {} if clip is None else {"clip": check_positive(clip, "clip")}
        self._warned = False

    def forward(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Weighted:
        """Where n chains end, from the buffer if there is one, in training mode; all of the same weight."""
        kept = self.persistence if self.training else None
        eps = base.noise(n, generator=generator) if kept is None else kept.draw(n, generator=generator)
        ends = self.run(base, energy, eps, generator)
        if kept is not None:
            kept.put(ends)
        return Weighted.evenly(carried(base, ends))

    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n chains from fresh noise."""
        eps = base.noise(check_count(n), generator=generator)
        return self.run(base, energy, eps, generator, steps=self.sample_steps)

    def run(
        self,
        base: GenerativeModel,
        energy: Energy,
        eps: Tensor,
        generator: torch.Generator | None = None,
        *,
        steps: int | None = None,
    ) -> Tensor:
        """Where chains that begin at ε (n, D) end after `steps` of the training unless others are given, (n, D).

        Raises FloatingPointError if they diverge, ValueError if the base has other blocks than `step` names.
        """
        settings = self._steps(base, eps.shape[1])
        if self.width is not None and not self._warned:
            self._warned = True
            warn_above(base, self.step, self.width, generator=torch.Generator(eps.device).manual_seed(0))
        with held_still(energy), held_still(base):
            chains = self.sampler(noise_energy(base, energy), **settings, **self.options)
            eps = chains.run(eps, self.steps if steps is None else steps, generator=generator)
            for _ in range(self.jumps):
                eps = jump(base, energy, eps, generator)
            return eps

    def _steps(self, base: GenerativeModel, size: int) -> dict:
        """What the sampler is told: η, or 1 and η as a preconditioner's diagonal, which comes to the same."""
        if not isinstance(self.step, Mapping):
            return {"step": self.step}
        blocks = noise_blocks(base, size)
        if set(self.step) != set(blocks):
            raise ValueError(f"step must name the blocks of the base, {', '.join(blocks)}; got {', '.join(self.step)}")
        etas = torch.tensor([self.step[name] for name in blocks], dtype=torch.float64)
        return {"step": 1.0, "preconditioner": etas.repeat_interleave(torch.tensor(list(blocks.values())))}


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

    Its bias is of order 1/ESS; warns, once, of a training in which fewer than 5 draws carry the weight.

    Args:
        pool: draws for each negative, or for each sample that is picked from them.
    """

    def __init__(self, pool: int = 4):
        super().__init__()
        self.pool = self.nfe = check_count(pool, "pool")
        self._warned = False

    def forward(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Weighted:
        """pool · n draws of the base, with their weights."""
        _, x, weights = self._weighted(base, energy, self.pool * check_count(n), generator)
        if not self._warned and (count := float(1 / weights.square().sum())) < COLLAPSED:
            self._warned = True
            told = f"only {count:.1f} of {len(x)} draws of the base carry the weight"
            advice = "the negatives are hardly the model's; take a larger pool, chains or stages"
            warnings.warn(f"{told}, and {advice}", stacklevel=2)
        return Weighted(x, weights)

    def draw(self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n picked from pool · n, with replacement, with probability w (sampling-importance-resampling)."""
        eps, _, weights = self._weighted(base, energy, max(self.pool * check_count(n), LEAST), generator)
        return eps[torch.multinomial(weights, n, replacement=True, generator=generator)]

    @torch.no_grad()
    def _weighted(
        self, base: GenerativeModel, energy: Energy, n: int, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """ε of n draws of the base, where they lead, and their weights."""
        eps = base.noise(n, generator=generator)
        x = carried(base, eps)
        with held_still(energy):
            return eps, x, (-values(energy, x)).softmax(0)
