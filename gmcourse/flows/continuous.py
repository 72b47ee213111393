r"""Continuous flows: the layers become an ordinary differential equation (FFJORD).

    dx/dt = f(x, t),    data at t = 0, noise at t = 1                                  slides (17); Chen et al. 2018
    d log p(x(t))/dt = −tr ∂f/∂x      ⇒      log|det ∂z/∂x| = ∫₀¹ tr ∂f/∂x dt

Any f that is Lipschitz in x does: its solutions never cross, nor run off to infinity. Position and integral are solved for
together, by `torchdiffeq`. The trace costs about D + 1 evaluations of f, or two, tr ∂f/∂x = E[vᵀ (∂f/∂x) v], with random
signs v that are drawn once per solve, so that the solver sees a smooth right-hand side (Grathwohl et al. 2019). Many fields
carry data to the same noise; preferring short and straight paths makes them cheap to solve (RNODE, Finlay et al. 2020):

    kinetic ∫ ‖f‖² dt,     jacobian ∫ ‖∂f/∂x‖²_F dt  (with one vector: ‖vᵀ ∂f/∂x‖²)
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchdiffeq import odeint, odeint_adjoint

from gmcourse.flows.layer import Layer
from gmcourse.flows.solve import SolverError, input_of, jacobian
from gmcourse.model import check_count

FIXED, ADAPTIVE = ("euler", "midpoint", "rk4"), ("bosh3", "dopri5", "dopri8")


class Path(NamedTuple):
    """Where a solve ended, and its integrals along the way, each (n,)."""

    end: Tensor
    trace: Tensor
    kinetic: Tensor
    jacobian: Tensor


class Continuous(Layer):
    """z = x(1) of dx/dt = f(x, t) from x(0) = x, slides (17).

    Args:
        field: f, called as field(x, t, context); if it has `divergence(x, t, context)` -> (f, tr ∂f/∂x) or `linearise` (see
            `Velocity`), the exact trace comes from that.
        solver: fixed steps ("euler", "midpoint", "rk4") or adaptive ("bosh3", "dopri5", "dopri8").
        steps: of a fixed-step solver; an adaptive one may take at most `max_steps`.
        tolerance: of an adaptive solver, relative and absolute. It looks at the batch as a whole.
        trace: "exact" or "hutchinson" (noisy; in high dimension the only one that can be paid).
        adjoint: gradients by solving backwards instead of storing the way: memory does not grow with the number of steps,
            and they are as wrong as the two solves differ. No second derivatives.

    After a solve `evaluations` holds how often it called the field; the backward pass of the adjoint counts on from there.

    Hutchinson's signs come from torch's global generator. `inverse`, and so `Flow.sample` and `push`, draws none: it solves
    for the position alone. The steps of an adaptive solver look at the integrals, too, so z of `forward` and x of `invert`
    then depend on the signs, within the tolerance.
    """

    def __init__(
        self,
        field: nn.Module,
        *,
        solver: str = "rk4",
        steps: int = 20,
        tolerance: float = 1e-5,
        max_steps: int = 1000,
        trace: str = "exact",
        adjoint: bool = False,
    ):
        super().__init__()
        if solver not in FIXED + ADAPTIVE:
            raise ValueError(f"solver must be one of {FIXED + ADAPTIVE}; got {solver!r}")
        if trace not in ("exact", "hutchinson"):
            raise ValueError(f"trace must be 'exact' or 'hutchinson'; got {trace!r}")
        if not tolerance > 0:
            raise ValueError(f"tolerance must be positive; got {tolerance}")
        self.field, self.solver, self.tolerance = field, solver, tolerance
        self.steps, self.max_steps = check_count(steps, "steps"), check_count(max_steps, "max_steps")
        self.trace, self.adjoint, self.evaluations = trace, adjoint, 0

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Data → noise, t from 0 to 1."""
        path = self.path(x, context)
        return path.end, path.trace

    def invert(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Noise → data, t from 1 to 0: the same cost, and the inverse up to the solver's error."""
        path = self.path(z, context, reverse=True)
        return path.end, -path.trace

    def inverse(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise → data alone: where the trace is random, without it, so that the same z always gives the same x."""
        return self._path(z, context, reverse=True, integrals=int(self.trace == "exact")).end

    def carry(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise → data alone, without the trace in any case: cheaper than `inverse` where that is exact. The steps of an
        adaptive solver then look at the position only, so that the two agree within the tolerance."""
        return self._path(z, context, reverse=True, integrals=0).end

    def path(
        self, x: Tensor, context: Tensor | None = None, *, reverse: bool = False, costs: bool = False
    ) -> Path:
        """Solve from x for the end and ∫ tr ∂f/∂x dt, with `costs` also for the kinetic and the jacobian integral."""
        return self._path(x, context, reverse=reverse, integrals=3 if costs else 1)

    def _path(self, x: Tensor, context: Tensor | None, *, reverse: bool, integrals: int) -> Path:
        v = None if self.trace == "exact" or not integrals else torch.randint_like(x, 2) * 2 - 1
        zero = x.new_zeros(len(x))
        state = (x, *[zero] * integrals)
        if rides := context is not None and self.adjoint:  # the adjoint gives gradients to states and parameters only
            state = (*state, context)

        def rates(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            given = state[-1] if rides else context
            if integrals:
                found = _rates(self.field, state[0], t, given, v, integrals > 1)
            else:
                found = (self.field(state[0], t, given),)
            return (*found, torch.zeros_like(context)) if rides else found

        end, *parts = self._solve(rates, state, [1.0, 0.0] if reverse else [0.0, 1.0])[: 1 + integrals]
        return Path(end[-1], *(part[-1] for part in parts), *[zero] * (3 - integrals))

    @torch.no_grad()
    def trajectories(self, x: Tensor, times: Sequence[float], context: Tensor | None = None) -> Tensor:
        """Where x goes: (len(times), n, *shape), from x at times[0] on; rising times lead to noise, falling ones to data."""
        times = [float(t) for t in times]
        rising = [b > a for a, b in zip(times, times[1:], strict=False)]
        if len(times) < 2 or (any(rising) and not all(rising)) or len(set(times)) < len(times):
            raise ValueError(f"times must rise or fall, and be two or more; got {times}")
        return self._solve(lambda t, state: (self.field(state[0], t, context),), (x,), times)[0]

    def _solve(self, rates, state: tuple[Tensor, ...], times: Sequence[float]) -> tuple[Tensor, ...]:
        """The states at `times`. torchdiffeq reports failures by assertions: here they get names."""
        self.evaluations, last = 0, None
        if not state[0].numel():  # no rows: adaptive solvers would divide by their number
            return tuple(part.expand(len(times), *part.shape) for part in state)

        def counted(t: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            nonlocal last
            self.evaluations, last = self.evaluations + 1, t.detach()
            return rates(t, state)

        fixed = self.solver in FIXED
        options = {"grid_constructor": self._grid} if fixed else {"max_num_steps": self.max_steps}
        settings = {"rtol": self.tolerance, "atol": self.tolerance, "method": self.solver, "options": options}
        solve = odeint
        if self.adjoint and torch.is_grad_enabled():
            solve, settings["adjoint_params"] = odeint_adjoint, tuple(self.field.parameters())
        means = f"{self.steps} steps" if fixed else f"tolerance {self.tolerance:g}"
        t = torch.tensor(times, dtype=state[0].dtype, device=state[0].device)
        try:
            ends = solve(counted, state, t, **settings)
        except AssertionError as error:
            reason = str(error).partition(":")[0]
            raise SolverError(f"{self.solver} with {means} failed at t = {float(last):.4g}: {reason}") from error
        if not ends[0].isfinite().all():
            where = f"between t = {times[0]:g} and {times[-1]:g}"
            raise SolverError(f"{self.solver} with {means} left the finite numbers {where}")
        return ends

    def _grid(self, _, __, t: Tensor) -> Tensor:
        """Times of the fixed steps: `steps` per unit of time, and every time that is asked for."""
        ends = t.tolist()
        parts = [t[:1]]
        for a, b, stop in zip(ends, ends[1:], t[1:], strict=False):
            count = max(1, math.ceil(self.steps * abs(b - a) - 1e-4))
            parts += [torch.linspace(a, b, count + 1, dtype=t.dtype, device=t.device)[1:-1], stop[None]]
        return torch.cat(parts)


def _rates(field, x: Tensor, t: Tensor, context: Tensor | None, v: Tensor | None, costs: bool) -> tuple[Tensor, ...]:
    """f, tr ∂f/∂x and with `costs` ‖f‖² and ‖∂f/∂x‖²; v are Hutchinson's vectors, None for the exact trace."""
    graph = torch.is_grad_enabled()
    if v is None and not costs and hasattr(field, "divergence"):
        found = field.divergence(x, t, context)
        return found if graph else tuple(part.detach() for part in found)
    if v is None and hasattr(field, "linearise"):
        f, j = field.linearise(x, t, context)
    else:
        with torch.enable_grad():
            x = input_of(x) if graph else x.detach().requires_grad_()
            f = field(x, t, context)
            j = jacobian(f, x, create_graph=graph) if v is None else torch.autograd.grad(f, x, v, create_graph=graph)[0]
    trace = j.diagonal(dim1=1, dim2=2).sum(1) if v is None else (j * v).flatten(1).sum(1)
    found = (f, trace)
    if costs:
        found = (f, trace, f.square().flatten(1).sum(1), j.square().flatten(1).sum(1))
    return found if graph else tuple(part.detach() for part in found)
