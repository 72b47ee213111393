r"""Ways down an energy: what turns noise x₀ ~ N(0, I) into a sample when the energy is the generator (thesis 5.1, 5.3).

    Langevin         x_{k+1} = x_k − (η/2) ∇E(x_k) + σ u_k,   u_k ~ N(0, I)                  thesis (5.3), where σ = √η
    descent          x_{k+1} = x_k − (η/2) ∇E(x_k)                                          thesis (5.8), (5.9): σ = 0
    gradient flow    x′(t) = −∇E(x(t)),  0 ≤ t ≤ T                                          thesis (5.5), (5.6)

K steps of descent are Euler's solution of the flow up to T = Kη/2. Both are functions of x₀ alone, and where they can be
inverted chapter 3 has their densities: the flow is a continuous flow, and each step of descent a residual one,

    log p(x_T) = log p₀(x₀) + ∫₀ᵀ tr ∇²E(x(t)) dt                                           thesis (5.7)
    log p(x_K) = log p₀(x₀) − Σ_k log|det(I − (η/2) ∇²E(x_k))|

With noise on the way a sample is a function of x₀ and all the u_k, thesis (5.4), and its density an integral over them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gmcourse.compositions.recompute import recomputed
from gmcourse.ebm.derivatives import score_and_divergence
from gmcourse.ebm.energy import Energy, score
from gmcourse.flows.continuous import FIXED, Continuous
from gmcourse.flows.inverted import Inverted
from gmcourse.flows.layer import Layer
from gmcourse.flows.residual import KINDS, Residual
from gmcourse.flows.solve import input_of, jacobian
from gmcourse.model import check_count, check_not_negative, check_positive, evaluating
from gmcourse.sampling.target import Target

STAGES = {"euler": 1, "midpoint": 2, "rk4": 4}  # evaluations of the field per step


class Dynamics(nn.Module, ABC):
    """How an energy leads noise to data. It has no weights of its own."""

    noisy = False  # whether there is noise on the way: u (n, steps, *event_shape)

    @property
    @abstractmethod
    def nfe(self) -> int:
        """Evaluations of ∇E per sample."""

    @abstractmethod
    def run(self, energy: Energy, x: Tensor, u: Tensor | None = None) -> Tensor:
        """The end of the way from x (n, *event_shape); where gradients are wanted differentiable in x, u and the weights.

        Raises FloatingPointError if it is not finite.
        """

    @abstractmethod
    def path(self, energy: Energy, x: Tensor, u: Tensor | None = None) -> Tensor:
        """The way from x without gradients, (points, n, *event_shape), x first."""

    @abstractmethod
    def layers(self, energy: Energy) -> Sequence[Layer]:
        """The same as layers of a flow, data → noise; ValueError where there is noise on the way."""


class Langevin(Dynamics):
    """`steps` times x − (η/2) ∇E(x) + σ u, thesis (5.3); without noise (5.8).

    Args:
        steps: K.
        step: η.
        noise: σ; None is Langevin's own, √η, and 0 is descent. In general the temperature is σ²/η.
        checkpointed: gradients keep the K + 1 points, and take every step again on the way back, see `recomputed`. Else all
            that the steps have computed is stored, which is a little faster and takes K times the memory of one; so it is
            for an energy that is no module, whose weights can't be asked for.
        log_det: of a `flows.Residual`, how `layers` without noise find it.
    """

    def __init__(
        self, steps: int, step: float, noise: float | None = None, *, checkpointed: bool = True, log_det: str = "exact"
    ):
        super().__init__()
        self.steps, self.step = check_count(steps, "steps"), check_positive(step, "step")
        self.noise = self.step**0.5 if noise is None else check_not_negative(noise, "noise")
        if log_det not in KINDS:
            raise ValueError(f"log_det must be one of {KINDS}; got {log_det!r}")
        self.checkpointed, self.log_det = checkpointed, log_det

    @property
    def noisy(self) -> bool:
        """Whether σ > 0."""
        return self.noise > 0

    @property
    def nfe(self) -> int:
        """One per step."""
        return self.steps

    def run(self, energy: Energy, x: Tensor, u: Tensor | None = None) -> Tensor:
        """x_K; a FloatingPointError names the first step whose points are not finite."""
        step, end = self._step(energy), x
        for k in range(self.steps):
            end = step(end) if u is None else step(end) + self.noise * u[:, k]
        if not end.isfinite().all():
            whole = self.path(energy, x, u).isfinite().flatten(1).all(1)
            first = min(int(whole.long().cumprod(0).sum()), self.steps)  # how many points there are before it
            cure = f"steps of {self.step:g} are too long where the energy bends by more than {4 / self.step:g}"
            raise FloatingPointError(f"the dynamics left the finite numbers at step {first} of {self.steps}: {cure}")
        return end

    def path(self, energy: Energy, x: Tensor, u: Tensor | None = None) -> Tensor:
        """All K + 1 points."""
        points = [x]
        with torch.no_grad():
            step = self._step(energy)
            for k in range(self.steps):
                points.append(step(points[-1]) if u is None else step(points[-1]) + self.noise * u[:, k])
        return torch.stack(points).detach()

    def layers(self, energy: Energy) -> Sequence[Layer]:
        """K inverted residual layers, the last step first."""
        if self.noisy:
            raise ValueError(f"a sample with noise on its way has no density in closed form; got noise = {self.noise:g}")
        return [Inverted(Residual(DescentStep(energy, self.step), log_det=self.log_det))] * self.steps

    def extra_repr(self) -> str:
        """K, η and σ."""
        return f"steps={self.steps}, step={self.step:g}, noise={self.noise:g}"

    def _step(self, energy: Energy) -> Callable[[Tensor], Tensor]:
        """x ↦ x − (η/2) ∇E(x), with a graph where gradients are wanted."""
        step = partial(_descend, energy, self.step)
        if not (self.checkpointed and torch.is_grad_enabled() and isinstance(energy, nn.Module)):
            return step
        weights = list(energy.parameters())
        return lambda x: recomputed(partial(_as_it_was, energy, step), x, weights)


class GradientFlow(Dynamics):
    """x′(t) = −∇E(x(t)) from 0 to T by a solver, thesis (5.6).

    Args:
        time: T; K steps of descent with η have T = Kη/2.
        solver, steps, tolerance, max_steps, trace, adjoint: as `flows.Continuous` has them.
    """

    def __init__(
        self,
        time: float,
        *,
        solver: str = "rk4",
        steps: int = 10,
        tolerance: float = 1e-5,
        max_steps: int = 1000,
        trace: str = "exact",
        adjoint: bool = False,
    ):
        super().__init__()
        self.time, self.solver = check_positive(time, "time"), solver
        self.steps = steps
        self.settings = {"solver": solver, "steps": steps, "tolerance": tolerance, "max_steps": max_steps}
        self.settings |= {"trace": trace, "adjoint": adjoint}
        Continuous(nn.Identity(), **self.settings)  # refuses bad settings now
        self.evaluations = 0  # of ∇E in the last run

    @property
    def nfe(self) -> int:
        """Of a fixed-step solver; an adaptive one's are counted, and those of the last run are given."""
        return self.steps * STAGES[self.solver] if self.solver in FIXED else self.evaluations

    def run(self, energy: Energy, x: Tensor, u: Tensor | None = None) -> Tensor:
        """x(T); a `SolverError`, which is a FloatingPointError, where the solver fails."""
        solve = self._solve(energy)
        end = solve.carry(x)
        self.evaluations = solve.evaluations
        return end

    def path(self, energy: Energy, x: Tensor, u: Tensor | None = None) -> Tensor:
        """`steps` + 1 points at equal distances in time."""
        times = [1 - k / self.steps for k in range(self.steps + 1)]
        return self._solve(energy).trajectories(x, times)

    def layers(self, energy: Energy) -> Sequence[Layer]:
        """One continuous layer, whose own time runs from the data, 0, to the noise, 1."""
        return [self._solve(energy)]

    def extra_repr(self) -> str:
        """T and the solver's settings."""
        return f"time={self.time:g}, " + ", ".join(f"{name}={value}" for name, value in self.settings.items())

    def _solve(self, energy: Energy) -> Continuous:
        return Continuous(EnergyField(energy, self.time), **self.settings)


class EnergyField(nn.Module):
    """f(x, t) = T ∇E(x): up the energy, as a continuous flow goes from data to noise within the time 1."""

    def __init__(self, energy: Energy, time: float):
        super().__init__()
        self.energy, self.time = energy, time

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        """x (n, *event_shape) -> same shape; with a graph where gradients are wanted."""
        return -self.time * downhill(self.energy, x)

    def divergence(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """f and tr ∂f/∂x = T tr ∇²E, shape (n,)."""
        slope, trace = score_and_divergence(self.energy, x)
        return -self.time * slope, -self.time * trace


class DescentStep(nn.Module):
    """g(x) = −(η/2) ∇E(x), as a residual layer wants it: x + g(x) is a step of descent, thesis (5.8).

    Nothing holds Lip(g) below 1 but the energy itself. That is enough for the step to be invertible (5.9), and what its
    inversion by iteration needs; necessary is less. I − (η/2)∇²E is symmetric, and folds space only where the energy bends
    upwards by more than 2/η: downwards it may bend as it likes, since x + g(x) is the gradient of ½‖x‖² − (η/2)E, which is
    one-to-one where that is strictly convex. `lipschitz` is what the layer takes Lip(g) to be, for the roulette alone.
    """

    lipschitz = 0.99

    def __init__(self, energy: Energy, step: float):
        super().__init__()
        self.energy, self.step = energy, step

    def function(self, context: Tensor | None = None) -> "DescentStep":
        """g does not depend on a context."""
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(n, *event_shape) -> same shape; with a graph where gradients are wanted."""
        return self.step / 2 * downhill(self.energy, x)

    def linearise(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """g(x) and its Jacobian −(η/2) ∇²E(x), (n, d, d)."""
        graph = torch.is_grad_enabled()
        with torch.enable_grad():
            at = input_of(x) if graph else x.detach().requires_grad_()
            y = self(at) + 0 * at.square()  # 0·: the gradient of a plane has a graph, too
            j = jacobian(y, at, create_graph=graph)
        return (y, j) if graph else (y.detach(), j)


def downhill(energy: Energy, x: Tensor) -> Tensor:
    """−∇E(x), (n, *event_shape) -> same shape; with a graph to x and the weights where gradients are wanted."""
    return score(energy, x, create_graph=True) if torch.is_grad_enabled() else Target(energy, None).score(x)


def _descend(energy: Energy, step: float, x: Tensor) -> Tensor:
    return torch.add(x, downhill(energy, x), alpha=step / 2)


def _as_it_was(energy: nn.Module, step: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The step in evaluation mode: gradients may come back when the energy is in training mode again."""
    with evaluating(energy):
        return step(x)
