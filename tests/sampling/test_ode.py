"""Solvers of ordinary differential equations against closed forms, scipy, and the orders they claim."""

import math

import pytest
import torch
from scipy.integrate import solve_ivp

from gmcourse.sampling import odeint

FIXED = {"euler": 1, "heun": 2, "rk4": 4}  # orders, and evaluations per step
METHODS = [*FIXED, "dopri5"]
X0 = torch.tensor([[0.1, 0.3], [0.5, 0.9]], dtype=torch.float64)


def logistic(t, x):
    """x' = (1 + sin 3t) x (1 − x): not linear, not autonomous."""
    return (1 + (3 * t).sin()) * x * (1 - x)


def logistic_at(t, x0=X0):
    """logit x grows by ∫₀ᵗ (1 + sin 3u) du."""
    return (x0.logit() + t + (1 - math.cos(3 * t)) / 3).sigmoid()


def pendulum(t, x):
    return torch.stack([x[:, 1], -x[:, 0].sin()], 1)


@pytest.mark.parametrize(("method", "order"), FIXED.items())
def test_halving_the_step_divides_the_error_by_two_to_the_order(method, order):
    errors = [(odeint(logistic, X0, (0, 2), steps=n, method=method).end - logistic_at(2)).abs().max() for n in (20, 40, 80)]
    slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert slopes == pytest.approx([order] * 2, abs=0.2)


@pytest.mark.parametrize(("method", "per_step"), FIXED.items())
def test_evaluations_are_counted(method, per_step):
    calls = []
    path = odeint(lambda t, x: calls.append(t) or -x, X0, (0, 0.5, 1), steps=7, method=method)
    assert path.evaluations == len(calls) == 14 * per_step


def test_dopri5_counts_its_evaluations_and_needs_more_for_a_smaller_tolerance():
    calls, found = [], []
    for tolerance in (1e-3, 1e-6, 1e-9):
        calls.clear()
        path = odeint(lambda t, x: calls.append(t) or logistic(t, x), X0, (0, 2), method="dopri5", tolerance=tolerance)
        assert path.evaluations == len(calls)
        found.append((path.evaluations, float((path.end - logistic_at(2)).abs().max())))
    (n1, e1), (n2, e2), (n3, e3) = found
    assert n1 < n2 < n3 and e1 > e2 > e3 and e3 < 1e-8


@pytest.mark.parametrize("method", METHODS)
def test_the_pendulum_swings_as_in_scipy(method):
    x = torch.tensor([[1.0, 0.0], [3.0, 0.1]], dtype=torch.float64)
    found = odeint(pendulum, x, (0, 1, 3), steps=200, method=method, tolerance=1e-8).x
    for row in range(2):
        truth = solve_ivp(
            lambda t, y: [y[1], -math.sin(y[0])], (0, 3), x[row].numpy(), "DOP853", [0, 1, 3], rtol=1e-11, atol=1e-11
        )
        assert torch.allclose(found[:, row], torch.tensor(truth.y.T), atol=0.04 if method == "euler" else 1e-3)


@pytest.mark.parametrize("method", METHODS)
def test_the_path_holds_the_solution_at_every_time(method):
    times = torch.tensor([0.0, 0.3, 1.1, 2.0], dtype=torch.float64)
    path = odeint(logistic, X0, times, steps=1000 if method == "euler" else 50, method=method, tolerance=1e-7)
    wanted = torch.stack([logistic_at(float(t)) for t in times])
    assert torch.equal(path.x[0], X0) and torch.equal(path.times, times) and torch.equal(path.end, path.x[-1])
    assert torch.allclose(path.x, wanted, atol=1e-3 if method == "euler" else 1e-4)


@pytest.mark.parametrize("method", FIXED)
def test_steps_divide_the_time_between_neighbours_evenly(method):
    coarse = odeint(logistic, X0, (0, 1, 3), steps=4, method=method).x
    fine = odeint(logistic, X0, [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 2.5, 3], method=method).x
    assert torch.allclose(coarse, fine[[0, 4, 8]], atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_there_and_back_again(method):
    """Falling times solve the same equation backwards."""
    options = {"steps": 2000 if method == "euler" else 100, "method": method, "tolerance": 1e-8}
    back = odeint(logistic, odeint(logistic, X0, (0, 2), **options).end, (2, 0), **options).end
    assert torch.allclose(back, X0, atol=2e-3 if method == "euler" else 1e-4)
    from_truth = odeint(logistic, logistic_at(2.0), (2, 0), **options).end
    assert torch.allclose(from_truth, X0, atol=2e-3 if method == "euler" else 1e-4)


@pytest.mark.parametrize("times", [(0.0, 1.0), (1.0, 0.0), (1.0, 0.4, 0.0)])
@pytest.mark.parametrize("speed", [1e-4, 1.0, 30.0])
@pytest.mark.parametrize("method", METHODS)
def test_the_field_is_never_asked_outside_the_times(method, speed, times):
    """Not by dopri5 either, which by itself steps past the end, and whose first guess is long where the field is slow."""
    seen = []
    odeint(lambda t, x: seen.append(float(t)) or speed * -x, X0.float(), times, steps=15, method=method)
    assert min(seen) >= 0 and max(seen) <= 1
    assert seen[0] == times[0]


@pytest.mark.parametrize("method", METHODS)
def test_gradients_flow_through_the_solve(method):
    """x(1) = e^{-a} x₀: ∂/∂x₀ = e^{-a}, ∂/∂a = −x(1)."""
    a = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    x = X0.clone().requires_grad_()
    end = odeint(lambda t, x: -a * x, x, steps=2000 if method == "euler" else 50, method=method, tolerance=1e-8).end
    da, dx = torch.autograd.grad(end.sum(), (a, x))
    assert torch.allclose(da, -end.detach().sum(), rtol=2e-3)
    assert torch.allclose(dx, torch.full_like(X0, math.exp(-0.7)), rtol=2e-3)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_and_shape_are_those_of_x_and_time_is_a_scalar(method, dtype):
    def f(t, x):
        assert t.shape == () and t.dtype == x.dtype == dtype
        return -x

    path = odeint(f, torch.ones(3, 2, 4, dtype=dtype), (0, 1), steps=3, method=method)
    assert path.x.shape == (2, 3, 2, 4) and path.x.dtype == path.times.dtype == dtype


@pytest.mark.parametrize("method", FIXED)
def test_half_precision_keeps_its_points_and_counts_time_in_float32(method):
    path = odeint(lambda t, x: -x, torch.ones(3, 2, dtype=torch.bfloat16), steps=10, method=method)
    assert path.x.dtype == torch.bfloat16 and path.times.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "rk5"}, r"method must be one of .*; got 'rk5'"),
        ({"steps": 0}, "steps must be a positive whole number; got 0"),
        ({"tolerance": 0.0, "method": "dopri5"}, "tolerance must be positive; got 0.0"),
        ({"max_steps": 0, "method": "dopri5"}, "max_steps must be a positive whole number; got 0"),
        ({"times": (0.0,)}, r"times must be two or more numbers that rise or fall; got \[0.0\]"),
        ({"times": (0.0, 1.0, 0.5)}, "times must be two or more numbers that rise or fall"),
        ({"times": (0.0, 0.0)}, "times must be two or more numbers that rise or fall"),
        ({"times": (0.0, math.nan)}, "times must be two or more numbers that rise or fall"),
        ({"times": 3.0}, "times must be two or more numbers that rise or fall; got 3.0"),
        ({"x": torch.zeros(0, 2)}, r"x must be floats of shape \(n, \*event_shape\), n > 0; got \(0, 2\)"),
        ({"x": torch.zeros(3, 2, dtype=torch.long)}, "x must be floats of shape .*; got .*int64"),
        ({"f": lambda t, x: x.sum(1)}, r"f must return the shape of x, \(2, 2\); got \(2,\)"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"f": lambda t, x: -x, "x": X0, "times": (0.0, 1.0)} | change
    with pytest.raises(ValueError, match=message):
        odeint(**arguments)


@pytest.mark.parametrize("method", FIXED)
def test_a_solution_that_leaves_the_finite_numbers_is_reported_with_where(method):
    def f(t, x):
        return torch.where((t > 1.2) & (x < 1), torch.inf, -x)

    message = f"{method} left the finite numbers between t = 1 and 2; use more steps"
    with pytest.raises(FloatingPointError, match=message):
        odeint(f, torch.tensor([[9.0], [0.5]]), (0, 0.5, 1, 2, 3), steps=4, method=method)


def test_dopri5_says_why_it_gave_up():
    with pytest.raises(RuntimeError, match="dopri5 with tolerance 1e-05 and max_steps 2 failed: max_num_steps exceeded"):
        odeint(logistic, X0, (0, 5), method="dopri5", max_steps=2)
    with pytest.raises(RuntimeError, match="dopri5 .* failed: underflow in dt"):
        odeint(lambda t, x: x.square(), torch.ones(2, 1), (0, 2), method="dopri5")
