r"""The loop that all Markov chains share: many chains side by side, one step of all at a time.

A sampler is a `step`: State -> State, a few lines that mirror its equation. What is known at the current points (their
energy, their score) travels in the state, so that nothing is evaluated twice. `run` repeats the step and gives the last
points; `trace` keeps what lies between, for diagnostics.

Nothing here waits for a number to come back from the device: chains are looked at when the run is over.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor
from tqdm.auto import trange

from gmcourse.model import check_count, check_not_negative, check_positive
from gmcourse.sampling.preconditioner import Preconditioner
from gmcourse.sampling.target import Function, Target


class State(NamedTuple):
    """n chains, and what is known where they are."""

    x: Tensor  # (n, *event_shape)
    drift: Tensor | None = None  # the score at x as the chain feels it: clipped, preconditioned; shape of x
    energy: Tensor | None = None  # (n,), nats
    accepted: Tensor | None = None  # (n,) bool: whether the last proposal was taken


class Trace(NamedTuple):
    """A recorded run: points x (t, n, *event_shape), and the share of accepted proposals (n,), or None without a test."""

    x: Tensor
    acceptance: Tensor | None


class Sampler(ABC):
    """Base of the samplers of p(x) ∝ e^{−E(x)/T}, from an energy x (n, *event_shape) -> (n,), its score, or both.

    `run` and `trace` take floating-point starts and raise ValueError for others, for a start where energy or score are not
    finite, and for an energy or a score of the wrong shape; FloatingPointError if chains have diverged when they end.
    """

    def __init__(
        self,
        energy: Function | None,
        score: Function | None,
        *,
        temperature: float,
        preconditioner: Preconditioner,
        clip: float | None = None,
    ):
        self.temperature = check_not_negative(temperature, "temperature")
        self.target, self.preconditioner = Target(energy, score), preconditioner
        self.clip = None if clip is None else check_positive(clip, "clip")

    @abstractmethod
    def step(self, state: State, generator: torch.Generator | None = None) -> State:
        """One transition of every chain."""

    def run(self, x: Tensor, steps: int, *, generator: torch.Generator | None = None, progress: bool = False) -> Tensor:
        """Where the chains are `steps` transitions after x (n, *event_shape); same shape, without gradients."""
        with torch.inference_mode(False), torch.no_grad():
            state = self.start(x)
            for _ in trange(check_count(steps, "steps"), desc=type(self).__name__, leave=False, disable=not progress):
                state = self.step(state, generator)
            return self._finish(state)

    def trace(
        self, x: Tensor, steps: int, *, every: int = 1, skip: int = 0, generator: torch.Generator | None = None
    ) -> Trace:
        """Record every `every`-th of `steps` transitions, t = steps // every points, after `skip` unrecorded ones."""
        if check_count(steps, "steps") < check_count(every, "every"):
            raise ValueError(f"every must be at most steps = {steps}; got {every}")
        with torch.inference_mode(False), torch.no_grad():
            state = self.start(x)
            for _ in range(check_count(skip, "skip") if skip else 0):
                state = self.step(state, generator)
            points, accepted = [], 0
            for k in range(1, steps + 1):
                state = self.step(state, generator)
                accepted = accepted if state.accepted is None else accepted + state.accepted.to(x.dtype)
                if k % every == 0:
                    points.append(state.x)
            self._finish(state)
            return Trace(torch.stack(points), None if state.accepted is None else accepted / steps)

    def start(self, x: Tensor) -> State:
        """The state of chains at x, checked."""
        if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
            raise ValueError(f"x must be floats of shape (n, *event_shape), n > 0; got {tuple(x.shape)}, {x.dtype}")
        self.preconditioner.check(x)
        state = self.evaluate(x.detach().clone())
        finite = rows(state.drift).isfinite().all(1)
        if state.energy is not None:
            finite &= state.energy.isfinite()
        if not finite.all():
            raise ValueError(f"x must start where energy and score are finite; {_count(~finite)} chains do not")
        return state

    def evaluate(self, x: Tensor) -> State:
        """The state of chains at x: energy, if there is one, and drift."""
        energy, score = self.target.energy_and_score(x)
        return State(x, self.drift(score), energy)

    def drift(self, score: Tensor) -> Tensor:
        """The score as the chain feels it: at most `clip` long in every chain, then in the preconditioner's coordinates."""
        if self.clip is not None:
            length = torch.linalg.vector_norm(rows(score), dim=1).clamp(min=self.clip)
            score = score * beside(self.clip / length, score)
        return self.preconditioner.pull(score)

    def _finish(self, state: State) -> Tensor:
        bad = ~rows(state.x).isfinite().all(1)
        if bad.any():
            raise FloatingPointError(
                f"{_count(bad)} chains diverged; use a smaller step: Langevin is stable for step < 4/L, "
                "leapfrog for step < 2/√L, where L is the largest curvature of the energy"
            )
        return state.x


def metropolis(old: State, new: State, log_ratio: Tensor, generator: torch.Generator | None) -> State:
    """Each chain moves from `old` to `new` with probability min(1, exp(log_ratio)), log_ratio (n,).

    A proposal without a finite energy, or whose ratio is NaN, is rejected.
    """
    u = torch.rand(log_ratio.shape, generator=generator, dtype=log_ratio.dtype, device=log_ratio.device)
    accepted = (u.log() < log_ratio) & new.energy.isfinite()
    where = beside(accepted, new.x)
    return State(
        torch.where(where, new.x, old.x),
        torch.where(where, new.drift, old.drift),
        torch.where(accepted, new.energy, old.energy),
        accepted,
    )


def rows(x: Tensor) -> Tensor:
    """Events as vectors: (n, *event_shape) -> (n, d)."""
    return x.reshape(len(x), -1)


def beside(t: Tensor, x: Tensor) -> Tensor:
    """t of shape (n,) as (n, 1, …, 1), to be multiplied with x (n, *event_shape); a scalar stays as it is."""
    return t if t.ndim == 0 else t.reshape(-1, *[1] * (x.ndim - 1))


def normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """ω ~ N(0, I) with the shape, dtype and device of x."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)



def _count(bad: Tensor) -> str:
    return f"{int(bad.sum())} of {len(bad)}"
