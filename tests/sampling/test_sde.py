"""Solvers of stochastic differential equations: strong and weak orders measured, laws against closed forms.

Strong orders on one Brownian motion seen at several step sizes, against its exact solution. Weak orders without any
noise: for linear equations the moments of one step multiply up, and the Gaussian average over one step is a Gauss–Hermite
sum, to which the solver is fed its nodes as increments.
"""

import math

import numpy as np
import pytest
import torch

from gmcourse.sampling import odeint, sdeint

N, FINE = 4000, 256
STEPS = (16, 32, 64, 128)
METHODS = ("euler_maruyama", "milstein", "platen")
ONES = torch.ones(5, 2, dtype=torch.float64)
NODES, WEIGHTS = (torch.as_tensor(v) for v in np.polynomial.hermite_e.hermegauss(24))
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def coarser(dw, steps):
    """The increments of the same Brownian motion over fewer, longer steps."""
    return dw.unflatten(0, (steps, -1)).sum(1)


def order(errors, steps=STEPS):
    """Slope of log error against log step."""
    return -np.polyfit(np.log(steps), np.log([float(e) for e in errors]), 1)[0]


def gbm():
    """dx = a x dt + b x dw: x = e^{(a − b²/2) t + b w}."""
    a, b, dw = 0.5, 0.8, normal(FINE, N) / FINE**0.5
    return lambda t, x: a * x, lambda t, x: b * x, dw, torch.ones(N).double(), (a - b**2 / 2 + b * dw.sum(0)).exp()


def arsinh():
    """dx = (x/2 + √(x²+1)) dt + √(x²+1) dw: arsinh x = t + w."""

    def g(t, x):
        return (x.square() + 1).sqrt()

    dw = normal(FINE, N) / FINE**0.5
    return lambda t, x: x / 2 + g(t, x), g, dw, torch.zeros(N).double(), (1 + dw.sum(0)).sinh()


def ou():
    """dx = −θ x dt + σ dw: over a fine step, ΔW and ∫ e^{−θ(h−u)} dw are drawn from their joint Gaussian law."""
    theta, sigma, h = 2.0, 1.5, 1 / FINE
    cross, own = (1 - math.exp(-theta * h)) / theta, (1 - math.exp(-2 * theta * h)) / (2 * theta)
    root = torch.linalg.cholesky(torch.tensor([[h, cross], [cross, own]], dtype=torch.float64))
    dw, felt = (normal(FINE, N, 2) @ root.mT).unbind(-1)
    x0 = torch.full((N,), 2.0, dtype=torch.float64)
    decay = torch.exp(-theta * h * torch.arange(FINE - 1, -1, -1).double())
    truth = math.exp(-theta) * x0 + sigma * decay @ felt
    return lambda t, x: -theta * x, lambda t, x: t.new_tensor(sigma), dw, x0, truth


STRONG = [
    (gbm, "euler_maruyama", 0.5),
    (gbm, "milstein", 1.0),
    (gbm, "platen", 1.0),
    (arsinh, "euler_maruyama", 0.5),
    (arsinh, "milstein", 1.0),
    (arsinh, "platen", 1.0),
    (ou, "euler_maruyama", 1.0),
    (ou, "milstein", 1.0),
    (ou, "platen", 1.0),
]


@pytest.mark.parametrize(("problem", "method", "wanted"), STRONG)
def test_the_distance_from_the_true_path_falls_with_the_strong_order(problem, method, wanted):
    f, g, dw, x0, truth = problem()
    errors = []
    for steps in STEPS:
        end = sdeint(f, g, x0, steps=steps, method=method, increments=coarser(dw, steps)).end
        errors.append((end - truth).abs().mean())
    assert order(errors) == pytest.approx(wanted, abs=0.15)


def drift_rate(t):
    return 1 + (4 * t).sin()


def noise_rate(t):
    return 0.5 + t


GROWTH = 1 + (1 - math.cos(4)) / 4  # ∫ a over [0, 1]
NOISE = (1.5**3 - 0.5**3) / 3  # ∫ b²


def moments_of_gbm(method, steps):
    """E[x(1)], E[x(1)²] of the scheme for dx = a(t) x dt + b(t) x dw from 1, exact: those of its steps multiply."""
    first = second = 1.0
    for k in range(steps):
        dw = NODES / steps**0.5
        span = (k / steps, (k + 1) / steps)
        x = sdeint(
            lambda t, x: drift_rate(t) * x,
            lambda t, x: noise_rate(t) * x,
            torch.ones_like(dw),
            span,
            method=method,
            increments=dw[None],
        ).end
        first, second = first * (WEIGHTS @ x), second * (WEIGHTS @ x.square())
    return first, second


def moments_of_ou(method, steps):
    """E[x(1)], Var[x(1)] of the scheme for dx = −a(t) x dt + b(t) dw from 1, exact."""
    mean, variance = torch.tensor(1.0).double(), torch.tensor(0.0).double()
    for k in range(steps):
        dw = NODES / steps**0.5
        span = (k / steps, (k + 1) / steps)
        f, g = lambda t, x: -drift_rate(t) * x, lambda t, x: noise_rate(t) * torch.ones_like(x)
        from_0, from_1 = (
            sdeint(f, g, torch.full_like(dw, x), span, method=method, increments=dw[None]).end for x in (0.0, 1.0)
        )
        slope, noise = WEIGHTS @ (from_1 - from_0), WEIGHTS @ from_0.square()
        mean, variance = slope * mean, slope.square() * variance + noise
    return mean, variance


def ou_truth():
    """v' = −2 a v + b², by quadrature: v(1) = ∫ b²(u) e^{−2 ∫_u^1 a} du."""
    u, w = np.polynomial.legendre.leggauss(60)
    u = (u + 1) / 2
    left = GROWTH - (u + (1 - np.cos(4 * u)) / 4)
    return math.exp(-GROWTH), float(w / 2 @ ((0.5 + u) ** 2 * np.exp(-2 * left)))


@pytest.mark.parametrize(("method", "wanted"), [("euler_maruyama", 1), ("milstein", 1), ("platen", 2)])
@pytest.mark.parametrize("problem", ["gbm", "ou"])
def test_the_moments_come_nearer_with_the_weak_order(problem, method, wanted):
    of, truth = {
        "gbm": (moments_of_gbm, (math.exp(GROWTH), math.exp(2 * GROWTH + NOISE))),
        "ou": (moments_of_ou, ou_truth()),
    }[problem]
    found = [of(method, steps) for steps in STEPS]
    for k in range(2):
        assert order([abs(moments[k] - truth[k]) for moments in found]) == pytest.approx(wanted, abs=0.15)


def test_the_nodes_are_good_for_the_moments_of_gaussian_increments():
    """What the two tests above rest on: E[z^k] up to the twelfth is right to rounding."""
    for k, moment in ((2, 1), (4, 3), (8, 105), (12, 10395)):
        assert float(WEIGHTS @ NODES**k) == pytest.approx(moment, rel=1e-10)


@pytest.mark.parametrize("method", METHODS)
def test_drawn_noise_has_the_variance_that_the_scheme_must_give(method):
    """OU from 0: Euler's variance is the sum Σ (1 − θh)^{2k} σ² h, Platen's has its own factors; 20 000 paths."""
    theta, sigma, steps, h = 1.5, 0.8, 20, 0.1
    slope, noise = 1 - theta * h, sigma
    if method == "platen":
        slope, noise = slope + (theta * h) ** 2 / 2, sigma * (1 - theta * h / 2)
    wanted = sum(slope ** (2 * k) for k in range(steps)) * noise**2 * h
    x = torch.zeros(20_000, dtype=torch.float64)
    path = sdeint(
        lambda t, x: -theta * x, lambda t, x: t.new_tensor(sigma), x, (0, 1, 2), steps=10, method=method, generator=seeded()
    )
    assert abs(path.end.square().mean() - wanted) < 4.5 * wanted * (2 / len(x)) ** 0.5
    assert abs(path.end.mean()) < 4.5 * (wanted / len(x)) ** 0.5


@pytest.mark.parametrize("method", METHODS)
def test_falling_times_run_the_equation_backwards(method):
    """In u = 1 − t it is dx = −f du + g dw, with the same increments; a drift of the wrong sign would show."""

    def f(t, x):
        return (1 + t) * x.sin()

    def g(t, x):
        return (1 + t) * (1 + 0.3 * x.cos())

    dw = normal(8, 5, 2) / 8**0.5
    backwards = sdeint(f, g, ONES, (1, 0), steps=8, method=method, increments=dw).end
    mirrored = sdeint(
        lambda u, x: -f(1 - u, x), lambda u, x: g(1 - u, x), ONES, (0, 1), steps=8, method=method, increments=dw
    ).end
    assert torch.allclose(backwards, mirrored, atol=1e-12)


def test_with_additive_noise_milstein_is_euler_maruyama():
    f, g = lambda t, x: -x.pow(3), lambda t, x: 1 + t
    ends = [sdeint(f, g, ONES, steps=9, method=m, generator=seeded()).end for m in METHODS]
    assert torch.equal(ends[0], ends[1]) and not torch.allclose(ends[0], ends[2])


@pytest.mark.parametrize(("method", "ordinary"), [("euler_maruyama", "euler"), ("milstein", "euler"), ("platen", "heun")])
def test_without_noise_the_schemes_are_those_of_ordinary_equations(method, ordinary):
    def f(t, x):
        return x.sin() * (1 + t)

    found = sdeint(f, lambda t, x: torch.zeros_like(x), ONES, (0, 1, 2), steps=5, method=method).x
    assert torch.allclose(found, odeint(f, ONES, (0, 1, 2), steps=5, method=ordinary).x, atol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same_path_whatever_the_global_state(method):
    def run(seed):
        torch.manual_seed(seed + 17)
        return sdeint(lambda t, x: -x, lambda t, x: x, ONES, steps=4, method=method, generator=seeded(seed)).x

    assert torch.equal(run(0), run(0)) and not torch.equal(run(0), run(1))


@pytest.mark.parametrize(("method", "per_step"), [("euler_maruyama", 1), ("milstein", 1), ("platen", 2)])
def test_evaluations_of_the_drift_are_counted_and_stay_within_the_times(method, per_step):
    seen = []
    x = ONES.float()
    path = sdeint(lambda t, x: seen.append(float(t)) or -x, lambda t, x: t, x, (1, 0.3, 0), steps=7, method=method)
    assert path.evaluations == len(seen) == 14 * per_step
    assert min(seen) >= 0 and max(seen) <= 1
    assert path.x.shape == (3, 5, 2) and path.x.dtype == torch.float32 and torch.equal(path.x[0], x)


@pytest.mark.parametrize("method", METHODS)
def test_gradients_flow_along_the_path(method):
    """The slope of the end in b at fixed noise, against a central difference."""
    dw = normal(6, 5, 2) / 6**0.5

    def end(b):
        f, g = lambda t, x: 0.3 * x, lambda t, x: b * x.square()
        return sdeint(f, g, ONES, steps=6, method=method, increments=dw).end.sum()

    b = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(end(b), b)
    assert slope == pytest.approx(float((end(0.4 + 1e-5) - end(0.4 - 1e-5)) / 2e-5), rel=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "heun"}, r"method must be one of \('euler_maruyama', 'milstein', 'platen'\); got 'heun'"),
        ({"steps": 0}, "steps must be a positive whole number; got 0"),
        ({"times": (0.0, 0.0)}, "times must be two or more numbers that rise or fall"),
        ({"x": torch.zeros(3, dtype=torch.long)}, "x must be floats"),
        ({"increments": torch.zeros(3, 5, 2)}, r"increments must have shape \(4, 5, 2\); got \(3, 5, 2\)"),
        ({"drift": lambda t, x: x.sum(1)}, r"drift must return the shape of x, \(5, 2\); got \(5,\)"),
        ({"diffusion": lambda t, x: torch.ones(3, 5, 2)}, r"diffusion must return .* got \(3, 5, 2\)"),
    ],
)
def test_bad_arguments_are_named(change, message):
    arguments = {"drift": lambda t, x: -x, "diffusion": lambda t, x: t, "x": ONES, "steps": 4} | change
    with pytest.raises(ValueError, match=message):
        sdeint(**arguments)


def test_a_path_that_leaves_the_finite_numbers_is_reported():
    with pytest.raises(FloatingPointError, match="euler_maruyama left the finite numbers between t = 1 and 9"):
        sdeint(lambda t, x: -x.pow(3), lambda t, x: t, 30 * ONES.float(), (0, 1e-6, 1, 9), steps=3, generator=seeded())


@pytest.mark.parametrize("method", METHODS)
def test_without_gradients_the_path_is_the_same_and_keeps_no_graph(method):
    b = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    f, g = lambda t, x: -b * x, lambda t, x: b * x.cos()
    with_graph = sdeint(f, g, ONES, steps=3, method=method, generator=seeded()).end
    with torch.no_grad():
        without = sdeint(f, g, ONES, steps=3, method=method, generator=seeded()).end
    assert torch.equal(with_graph, without) and with_graph.requires_grad and not without.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_nothing_that_needs_no_gradient_gets_a_graph(method):
    end = sdeint(lambda t, x: -x, lambda t, x: x.cos(), ONES, steps=3, method=method, generator=seeded()).end
    assert not end.requires_grad


def test_milstein_has_the_correction_that_a_linear_diffusion_calls_for():
    """One step of dx = b x dw: x (1 + b ΔW + ½ b² (ΔW² − h)), exactly."""
    dw = normal(1, 5, 2)
    found = sdeint(lambda t, x: 0 * x, lambda t, x: 0.7 * x, 3 * ONES, (0, 0.5), method="milstein", increments=dw).end
    assert torch.allclose(found, 3 * (1 + 0.7 * dw[0] + 0.5 * 0.49 * (dw[0].square() - 0.5)), atol=1e-14)
