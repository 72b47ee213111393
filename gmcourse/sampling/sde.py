r"""Stochastic differential equations (Ito): an arrow and a jitter.

    dx = f(t, x) dt + g(t, x) dw,     g diagonal: g_i belongs to x_i alone
    one step from t to s, h = s − t, ΔW ~ N(0, |h| I):
        Euler–Maruyama   x + f h + g ΔW                                               strong order ½, weak 1
        Milstein         … + ½ g ∂g/∂x (ΔW² − |h|)                                    strong 1, weak 1
        Platen           two slopes f, and differences of g for its derivative        strong 1, weak 2

*Strong*: how far the path is from the true path of the same Brownian motion, E|x_h − x|; *weak*: how far its law is,
|E φ(x_h) − E φ(x)|. Samplers need the weak one. Where g does not depend on x (additive noise, all of this course's
diffusions), Milstein is Euler–Maruyama, of strong order 1, and Platen is Heun with noise. Times that fall run the equation
backwards: h < 0, and w is a Brownian motion of reversed time, as in thesis (2.64). (Kloeden & Platen 1992, chapters 10, 15.)
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from gmcourse.sampling.ode import Path, check_finite, same_shape, time_grid
from gmcourse.sampling.sampler import normal_like

Drift = Callable[[Tensor, Tensor], Tensor]  # t (), x (n, *event_shape) -> shape of x
Diffusion = Callable[[Tensor, Tensor], Tensor]  # t (), x -> what broadcasts against x; its i-th number knows x_i alone


def euler_maruyama(f: Drift, g: Diffusion, x: Tensor, t: Tensor, s: Tensor, dw: Tensor) -> Tensor:
    """x + f h + g ΔW: strong order ½ (1 with additive noise), weak order 1."""
    return x + (s - t) * f(t, x) + g(t, x) * dw


def milstein(f: Drift, g: Diffusion, x: Tensor, t: Tensor, s: Tensor, dw: Tensor) -> Tensor:
    """x + f h + g ΔW + ½ g g′ (ΔW² − |h|), g′ = ∂g_i/∂x_i: strong and weak order 1.

    g g′ is taken from the change of g along g √|h|, which costs no derivative and no order; Kloeden & Platen, chapter 11.1.
    """
    h = s - t
    root, gx = h.abs().sqrt(), g(t, x)
    slope = (g(t, x + root * gx) - gx) / root
    return x + h * f(t, x) + gx * dw + 0.5 * slope * (dw.square() - root.square())


def platen(f: Drift, g: Diffusion, x: Tensor, t: Tensor, s: Tensor, dw: Tensor) -> Tensor:
    """Platen's stochastic Runge–Kutta scheme for diagonal noise: weak order 2, strong order 1.

    Υ = x + f h + g ΔW,  Υ± = x + f h ± g √|h|;   Kloeden & Platen (15.1.1), with g₊, g₋ = g(s, Υ±):
    x + ½ (f + f(s, Υ)) h + ¼ (g₊ + g₋ + 2g) ΔW + ¼ (g₊ − g₋) (ΔW² − |h|)/√|h|.
    """
    h = s - t
    root = h.abs().sqrt()
    fx, gx = f(t, x), g(t, x)
    ahead = x + h * fx
    up, down = g(s, ahead + root * gx), g(s, ahead - root * gx)
    drift = 0.5 * h * (fx + f(s, ahead + gx * dw))
    return x + drift + 0.25 * ((up + down + 2 * gx) * dw + (up - down) * (dw.square() - root.square()) / root)


STEPS = {"euler_maruyama": euler_maruyama, "milstein": milstein, "platen": platen}


def sdeint(
    drift: Drift,
    diffusion: Diffusion,
    x: Tensor,
    times: Sequence[float] | Tensor = (0.0, 1.0),
    *,
    steps: int = 1,
    method: str = "euler_maruyama",
    generator: torch.Generator | None = None,
    increments: Tensor | None = None,
) -> Path:
    """Simulate dx = f(t, x) dt + g(t, x) dw from x (n, *event_shape) at times[0]; gradients flow unless switched off.

    Args:
        drift: f, called with a time, scalar tensor on x's device and of its dtype (at least float32), and x; shape of x.
        diffusion: g, called likewise; what comes broadcasts against x. Its i-th number may depend on x_i, on no other.
        times: k ≥ 2 of them, rising or falling (backwards in time); the path holds x at each.
        steps: between any two neighbours of `times`.
        method: "euler_maruyama" (1 drift a step), "milstein" (1) or "platen" (2).
        increments: ΔW of every step, (steps·(k − 1), n, *event_shape), for a Brownian motion of one's own, say the same
            one at several step sizes; else drawn once per step.

    The path's `evaluations` are those of the drift. Raises ValueError for bad arguments or results of the wrong shape,
    FloatingPointError where the path leaves the finite numbers.

    >>> path = sdeint(lambda t, x: -x, lambda t, x: 2**0.5 * torch.ones_like(x), torch.zeros(1000, 2), steps=20)
    >>> path.x.shape, path.evaluations
    (torch.Size([2, 1000, 2]), 20)
    """
    if method not in STEPS:
        raise ValueError(f"method must be one of {tuple(STEPS)}; got {method!r}")
    grid, evaluations = time_grid(x, times, steps), 0
    wanted = (len(grid) - 1, *x.shape)
    if increments is not None and increments.shape != wanted:
        raise ValueError(f"increments must have shape {wanted}; got {tuple(increments.shape)}")

    def f(t: Tensor, x: Tensor) -> Tensor:
        nonlocal evaluations
        evaluations += 1
        return same_shape(drift(t, x), x, "drift")

    points, step, widths = [x], STEPS[method], grid.diff().abs().sqrt()
    for k, (t, s) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        dw = widths[k] * normal_like(x, generator) if increments is None else increments[k]
        x = same_shape(step(f, diffusion, x, t, s, dw), x, "diffusion")
        if (k + 1) % steps == 0:
            points.append(x)
    return check_finite(Path(grid[::steps], torch.stack(points), evaluations), method)
