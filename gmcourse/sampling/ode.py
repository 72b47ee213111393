r"""Ordinary differential equations: follow an arrow that changes along the way.

    dx/dt = f(t, x),     x(t₀) given, x(t₁), x(t₂), … wanted; times may rise or fall
    one step from t to s = t + h, with k₁ = f(t, x):
        Euler   x + h k₁                                                     error of the end O(h)
        Heun    x + h/2 (k₁ + f(s, x + h k₁))                                O(h²)
        RK4     x + h/6 (k₁ + 2k₂ + 2k₃ + k₄),  k₂, k₃ at t + h/2, k₄ at s     O(h⁴)

What counts is evaluations of f, where a network sits: 1, 2 and 4 a step. A higher order pays where f is smooth and the
wanted error small. "dopri5" chooses its steps itself, so that two formulas, of orders 5 and 4, agree within a tolerance
(Dormand & Prince 1980, by `torchdiffeq`). f takes its arguments in torchdiffeq's order, time first.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torchdiffeq
from torch import Tensor

from gmcourse.model import check_count, check_positive

Field = Callable[[Tensor, Tensor], Tensor]  # t (), x (n, *event_shape) -> shape of x


class Path(NamedTuple):
    """A solution: x (k, n, *event_shape) at k times, the start first, and how often the field was evaluated."""

    times: Tensor
    x: Tensor
    evaluations: int

    @property
    def end(self) -> Tensor:
        """x at the last of the times, (n, *event_shape)."""
        return self.x[-1]


def euler(f: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """x + h f(t, x), h = s − t: order 1."""
    return x + (s - t) * f(t, x)


def heun(f: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The mean slope of Euler's step and of its end: order 2."""
    h, k = s - t, f(t, x)
    return x + h / 2 * (k + f(s, x + h * k))


def rk4(f: Field, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """The classical scheme of Runge and Kutta, Simpson's rule if f knows no x: order 4."""
    h, middle = s - t, (t + s) / 2
    k1 = f(t, x)
    k2 = f(middle, x + h / 2 * k1)
    k3 = f(middle, x + h / 2 * k2)
    k4 = f(s, x + h * k3)
    return x + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


STEPS = {"euler": euler, "heun": heun, "rk4": rk4}


def odeint(
    f: Field,
    x: Tensor,
    times: Sequence[float] | Tensor = (0.0, 1.0),
    *,
    steps: int = 1,
    method: str = "rk4",
    tolerance: float = 1e-5,
    max_steps: int = 1000,
) -> Path:
    """Solve dx/dt = f(t, x) from x (n, *event_shape) at times[0]; gradients flow through all steps unless switched off.

    Args:
        f: called with a time, scalar tensor on x's device and of its dtype (at least float32), and x; returns x's shape.
        times: k ≥ 2 of them, rising or falling; the path holds x at each. f is never asked outside their range.
        steps: of "euler", "heun" or "rk4", between any two neighbours of `times`.
        tolerance: of "dopri5", relative and absolute, on the batch as a whole.
        max_steps: that "dopri5" may take between two neighbours of `times`.

    Raises ValueError for bad arguments or a field of the wrong shape, RuntimeError where dopri5 gives up,
    FloatingPointError where the solution leaves the finite numbers.

    >>> path = odeint(lambda t, x: -x, torch.ones(3, 2), steps=10)
    >>> path.end[0], path.evaluations
    (tensor([0.3679, 0.3679]), 40)
    """
    if method not in (*STEPS, "dopri5"):
        raise ValueError(f"method must be one of {(*STEPS, 'dopri5')}; got {method!r}")
    grid, evaluations = time_grid(x, times, steps), 0

    def counted(t: Tensor, x: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return same_shape(f(t, x), x, "f")

    if method == "dopri5":
        grid = grid[::steps]
        points = _dopri5(counted, x, grid, check_positive(tolerance, "tolerance"), check_count(max_steps, "max_steps"))
    else:
        points, step = [x], STEPS[method]
        for k, (t, s) in enumerate(zip(grid[:-1], grid[1:], strict=True), 1):
            x = step(counted, x, t, s)
            if k % steps == 0:
                points.append(x)
        grid, points = grid[::steps], torch.stack(points)
    return check_finite(Path(grid, points, evaluations), method)


def _dopri5(f: Field, x: Tensor, times: Tensor, tolerance: float, max_steps: int) -> Tensor:
    """torchdiffeq, made to stop at the last time instead of stepping over it; its failures, assertions, get names."""
    low, high = times.min(), times.max()
    options = {"max_num_steps": max_steps, "step_t": times[-1:], "dtype": times.dtype}

    def inside(t: Tensor, x: Tensor) -> Tensor:
        return f(t.clamp(low, high).to(times.dtype), x)  # its guess of a first step may look further than the end

    try:
        return torchdiffeq.odeint(inside, x, times, rtol=tolerance, atol=tolerance, method="dopri5", options=options)
    except AssertionError as error:
        reason = str(error).partition(":")[0]
        raise RuntimeError(f"dopri5 with tolerance {tolerance:g} and max_steps {max_steps} failed: {reason}") from error


def time_grid(x: Tensor, times: Sequence[float] | Tensor, steps: int) -> Tensor:
    """All times of a fixed-step solve from x, `steps` between any two neighbours of `times`, both checked; where x is."""
    if x.ndim == 0 or len(x) == 0 or not x.is_floating_point():
        raise ValueError(f"x must be floats of shape (n, *event_shape), n > 0; got {tuple(x.shape)}, {x.dtype}")
    t = torch.as_tensor(times, dtype=torch.float64, device="cpu").detach()
    gaps = t.diff() if t.ndim == 1 else t
    if t.ndim != 1 or len(t) < 2 or not t.isfinite().all() or not ((gaps > 0).all() or (gaps < 0).all()):
        raise ValueError(f"times must be two or more numbers that rise or fall; got {t.tolist()}")
    share = torch.arange(check_count(steps, "steps"), dtype=torch.float64) / steps
    grid = torch.cat([(t[:-1, None] + gaps[:, None] * share).flatten(), t[-1:]])
    return grid.to(device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))


def same_shape(y: Tensor, x: Tensor, name: str) -> Tensor:
    """Return y if it has the shape of x, else raise ValueError naming the function that gave it."""
    if y.shape != x.shape:
        raise ValueError(f"{name} must return the shape of x, {tuple(x.shape)}; got {tuple(y.shape)}")
    return y


def check_finite(path: Path, method: str) -> Path:
    """Return the path if all of it is finite, else raise FloatingPointError saying where it was lost."""
    finite = path.x.isfinite().flatten(1).all(1)
    if not finite.all():
        lost = max(int(finite.long().argmin()), 1)
        a, b = path.times[lost - 1 : lost + 1].tolist()
        raise FloatingPointError(f"{method} left the finite numbers between t = {a:g} and {b:g}; use more steps")
    return path
