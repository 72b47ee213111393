"""Ways down an energy: closed forms of a quadratic one, autograd's Jacobian of the whole map, orders of convergence."""

import math

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.recompute import recomputed
from gmcourse.compositions.short_run import ShortRun
from gmcourse.compositions.stability import stretches
from gmcourse.ebm.energy import mlp_energy
from gmcourse.flows.solve import SolverError
from gmcourse.model import StandardNormal
from gmcourse.nets.confined import Confined

A = torch.tensor([0.5, 2.0], dtype=torch.float64)  # curvatures
ETA, K, T = 0.1, 20, 0.7


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


class Quadratic(nn.Module):
    """E = ½ Σ a_i x_i²: descent multiplies by 1 − ηa/2, and the flow by e^{−aT}."""

    def __init__(self, a=A):
        super().__init__()
        self.a = nn.Parameter(torch.as_tensor(a))

    def forward(self, x):
        return (self.a * x.square()).sum(1) / 2


def quadratic(dynamics, a=A) -> ShortRun:
    return ShortRun(Quadratic(a), dynamics, event_shape=(len(a),))


def bent(dynamics, seed=0) -> ShortRun:
    """A small net with curvature of either sign, in double precision."""
    torch.manual_seed(seed)
    energy = mlp_energy(2, (16, 16), input_scale=2.0).double()
    with torch.no_grad():
        list(energy.parameters())[-2].mul_(8)
    return ShortRun(energy, dynamics, event_shape=(2,))


def jacobian(model, eps):
    """∂push/∂ε of every row, (n, D, D), by a backward pass for each number of the result."""
    eps = eps.clone().requires_grad_()
    columns = model.push(eps).sum(0).unbind()
    return torch.stack([torch.autograd.grad(c, eps, retain_graph=True)[0] for c in columns], 1)


def gaussian(x, scale):
    """log N(x; 0, diag(scale²)) of every row."""
    return torch.distributions.Normal(torch.zeros_like(scale), scale).log_prob(x).sum(1)


@pytest.mark.parametrize("a", [A, torch.full((3,), 1.3, dtype=torch.float64)])
@pytest.mark.parametrize(
    ("dynamics", "factor", "tolerance"),
    [
        (GradientFlow(T, steps=20), lambda a: torch.exp(-a * T), 1e-6),
        (GradientFlow(T, solver="dopri5", tolerance=1e-9), lambda a: torch.exp(-a * T), 1e-7),
        (GradientFlow(T, steps=20, trace="hutchinson"), lambda a: torch.exp(-a * T), 1e-6),
        (GradientFlow(K * ETA / 2, solver="euler", steps=K), lambda a: (1 - ETA * a / 2) ** K, 1e-12),
        (Langevin(K, ETA, noise=0), lambda a: (1 - ETA * a / 2) ** K, 1e-10),
    ],
)
def test_a_quadratic_energy_scales_the_noise_and_its_density(a, dynamics, factor, tolerance):
    """x_T = e^{−aT} x₀ and log p(x) = log N(e^{aT} x; 0, I) + T Σa; of descent the factor is (1 − ηa/2)^K."""
    model, scale = quadratic(dynamics, a), factor(a)
    eps = model.noise(50, generator=seeded())
    x = model.push(eps).detach()
    assert torch.allclose(x, eps * scale, atol=tolerance)
    exact = gaussian(x, scale)
    if isinstance(dynamics, GradientFlow) and dynamics.solver != "euler":
        prior = gaussian(torch.exp(a * T) * x, torch.ones_like(a))
        assert torch.allclose(exact, prior + T * a.sum())
    if getattr(dynamics, "solver", None) == "euler":  # the density by Euler's steps back is not that of the steps forth
        tolerance = 0.2
    assert torch.allclose(model.log_prob(x), exact, atol=20 * tolerance)


def test_noise_on_the_way_adds_up_to_a_gaussian():
    """v′ = (1 − ηa/2)² v + σ² from v = 1: by the recursion, with the sample's own standard error."""
    n, sigma = 40_000, 0.3
    model, v = quadratic(Langevin(K, ETA, noise=sigma)), torch.ones_like(A)
    for _ in range(K):
        v = (1 - ETA * A / 2) ** 2 * v + sigma**2
    x = model.sample(n, generator=seeded())
    assert ((x.square().mean(0) / v - 1).abs() < 5 * math.sqrt(2 / n)).all()
    assert (x.mean(0).abs() < 5 * (v / n).sqrt()).all() and x.prod(1).mean().abs() < 5 * (v.prod() / n).sqrt()


@pytest.mark.parametrize("sigma", [None, 0.1])
def test_long_chains_sample_the_energy_at_the_temperature_of_their_noise(sigma):
    """σ = √η gives e^{−E}; less of it e^{−Eη/σ²}; up to the bias of the step, 1/(1 − ηa/4)."""
    n = 5000
    dynamics = Langevin(150, ETA, noise=sigma)
    temperature = dynamics.noise**2 / ETA
    assert temperature == pytest.approx(1.0 if sigma is None else 0.1)
    x = quadratic(dynamics).sample(n, generator=seeded())
    exact = temperature / A / (1 - ETA * A / 4)
    assert ((x.square().mean(0) / exact - 1).abs() < 5 * math.sqrt(2 / n)).all()


def test_the_step_of_euler_and_of_runge_kutta_has_its_order():
    """Half the step, 1/2 and 1/16 of the error, against a much finer solution."""
    eps = torch.randn(20, 2, dtype=torch.float64, generator=seeded())
    model = bent(GradientFlow(1.0, steps=100))
    with torch.no_grad():
        fine = model.push(eps)

    @torch.no_grad()
    def error(**settings):
        return float((model.under(GradientFlow(1.0, **settings)).push(eps) - fine).abs().max())

    assert 1.7 < error(solver="euler", steps=20) / error(solver="euler", steps=40) < 2.4
    assert 12 < error(steps=5) / error(steps=10) < 22


def test_fixed_steps_and_dopri5_agree_to_the_tolerance():
    eps = torch.randn(50, 2, dtype=torch.float64, generator=seeded())
    fixed, adaptive = bent(GradientFlow(T, steps=40)), bent(GradientFlow(T, solver="dopri5", tolerance=1e-8))
    with torch.no_grad():
        x = fixed.push(eps)
        assert torch.allclose(adaptive.push(eps), x, atol=1e-6)
        assert torch.allclose(adaptive.log_prob(x), fixed.log_prob(x), atol=1e-6)
    assert fixed.nfe == 160 and adaptive.nfe > 0


def test_steps_of_descent_tend_to_the_flow_and_are_eulers_solution_of_it():
    """K steps of η belong to the time T = Kη/2; the distance falls like η, that of the log-density as well."""
    eps = torch.randn(30, 2, dtype=torch.float64, generator=seeded())
    flow = bent(GradientFlow(T, steps=30))
    with torch.no_grad():
        end = flow.push(eps)
        exact = flow.log_prob(end)
        gaps = []
        for k in (20, 40):
            steps = flow.under(Langevin(k, 2 * T / k, noise=0))
            euler = flow.under(GradientFlow(T, solver="euler", steps=k))
            assert torch.allclose(steps.push(eps), euler.push(eps), atol=1e-12)
            gaps.append([(steps.push(eps) - end).abs().max(), (steps.log_prob(end) - exact).abs().max()])
    ratios = torch.tensor(gaps[0]) / torch.tensor(gaps[1])
    assert ((1.6 < ratios) & (ratios < 2.5)).all() and max(gaps[1]) < 0.2


@pytest.mark.parametrize("dynamics", [GradientFlow(T, steps=30), Langevin(10, 0.1, noise=0)])
def test_the_density_is_that_of_autograds_jacobian_of_the_whole_map(dynamics):
    """log p(x_T) = log p₀(x₀) − log|det ∂x_T/∂x₀|: what (5.7) integrates, from the map alone."""
    model = bent(dynamics)
    eps = torch.randn(8, 2, dtype=torch.float64, generator=seeded())
    found = jacobian(model, eps)
    exact = gaussian(eps, torch.ones_like(A)) - torch.linalg.slogdet(found).logabsdet
    assert (found - torch.eye(2)).abs().max() > 0.2
    assert torch.allclose(model.log_prob(model.push(eps)), exact, atol=1e-7)


def test_hutchinsons_trace_is_right_in_the_mean():
    model = bent(GradientFlow(T, steps=10, trace="hutchinson"))
    x = torch.randn(3, 2, dtype=torch.float64, generator=seeded())
    torch.manual_seed(1)
    with torch.no_grad():
        exact = model.under(GradientFlow(T, steps=10)).log_prob(x)
        draws = model.log_prob(x.repeat(2000, 1)).reshape(2000, 3)
    standard_error = draws.std(0) / 2000**0.5
    assert (standard_error > 0).all() and ((draws.mean(0) - exact).abs() < 5 * standard_error).all()


@pytest.mark.parametrize("a", [-0.6, 3.0])
def test_a_density_falls_where_the_energy_bends_downwards_and_rises_where_it_bends_upwards(a):
    """The sign of the trace in (5.7)."""
    model = quadratic(GradientFlow(0.3), torch.tensor([a, a], dtype=torch.float64))
    gain = model.log_prob(torch.zeros(1, 2).double()) + math.log(2 * math.pi)
    assert float(gain.detach()) == pytest.approx(2 * 0.3 * a, abs=1e-3)


def test_the_way_begins_at_the_noise_and_ends_where_push_does():
    eps = torch.randn(5, 2, dtype=torch.float64, generator=seeded())
    for dynamics, points in (
        (Langevin(6, 0.1, noise=0), 7),
        (GradientFlow(T, steps=6), 7),
        (GradientFlow(T, steps=4, solver="dopri5", tolerance=1e-9), 5),
    ):
        model = bent(dynamics)
        way = model.path(eps)
        assert way.shape == (points, 5, 2) and not way.requires_grad
        assert torch.equal(way[0], eps) and torch.allclose(way[-1], model.push(eps), atol=1e-7)


def energies():
    torch.manual_seed(0)
    plain = Confined(mlp_energy(2, (16, 16)))
    layers = [spectral_norm(nn.Linear(2, 16)), nn.SiLU(), nn.BatchNorm1d(16), nn.Dropout(0.5), nn.Linear(16, 1)]
    return [plain.double(), nn.Sequential(*layers, nn.Flatten(0)).double()]


@pytest.mark.parametrize("energy", energies(), ids=["plain", "with modes"])
@pytest.mark.parametrize("noise", [0, 0.2])
def test_gradients_of_steps_taken_again_are_those_of_steps_that_were_stored(energy, noise):
    """In x and the weights, with respect to what is kept; also where the energy was in training mode when they came back."""
    found = []
    for checkpointed in (True, False):
        model = ShortRun(energy.train(), Langevin(7, 0.2, noise, checkpointed=checkpointed), event_shape=(2,))
        eps = model.noise(9, generator=seeded()).requires_grad_()
        end = model.push(eps)
        wanted = [eps, *(p for p in energy.parameters() if p.requires_grad)]
        found.append([end, *torch.autograd.grad(end.square().sum(), wanted, materialize_grads=True)])
        assert energy.training
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-12)
    assert all(g.abs().max() > 0 for g in found[0][:3])


def test_steps_taken_again_have_second_derivatives():
    """By autograd's own check of the step, and by the stretches of the whole map, which differentiate twice."""
    weight = torch.randn(2, 2, dtype=torch.float64, generator=seeded(), requires_grad=True)
    x = torch.randn(3, 2, dtype=torch.float64, generator=seeded(1), requires_grad=True)
    again = lambda x, weight: recomputed(lambda y: (y @ weight).tanh(), x, [weight])  # noqa: E731
    assert torch.autograd.gradcheck(again, (x, weight)) and torch.autograd.gradgradcheck(again, (x, weight))
    model = bent(Langevin(5, 0.2, noise=0))
    eps = model.noise(6, generator=seeded())
    exact = torch.linalg.matrix_norm(jacobian(model, eps), 2).max()
    assert stretches(model, 6, generator=seeded())["z"] == pytest.approx(float(exact), rel=1e-3)


def test_an_energy_is_evaluated_once_per_step_and_once_more_on_the_way_back():
    class Counted(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.calls = mlp_energy(2, (4,)), 0

        def forward(self, x):
            self.calls += 1
            return self.net(x)

    energy = Counted()
    model = ShortRun(energy, Langevin(5, 0.1, 0), event_shape=(2,))
    end = model.push(torch.randn(3, 2))
    assert energy.calls == 5 == model.nfe
    end.sum().backward()
    assert energy.calls == 10


def test_gradients_by_the_adjoint_are_those_through_the_solver():
    eps = torch.randn(6, 2, dtype=torch.float64, generator=seeded())
    found = []
    for adjoint in (False, True):
        model = bent(GradientFlow(T, steps=20, adjoint=adjoint))
        weights = list(model.parameters())[:-1]  # all but the last bias, a constant of E
        found.append(torch.autograd.grad(model.push(eps).square().sum(), weights))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize(("noise", "word"), [(0, "noise=0"), (None, "noise=0.447214")])
def test_steps_that_run_away_are_named(noise, word):
    """|1 − ηa/2| = 40: x grows by that at every step, and leaves the single precision after 24 of them."""
    dynamics = Langevin(60, 0.2, noise=noise)
    model = quadratic(dynamics, torch.full((2,), 410.0))
    assert word in repr(dynamics)
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(FloatingPointError, match="at step 2[3-6] of 60.*more than 20"):
            model.push(torch.ones(3, sum(model.noise_blocks.values())))


def test_a_solver_that_fails_says_so_as_a_divergence():
    model = bent(GradientFlow(T, solver="dopri5", tolerance=1e-10, max_steps=2))
    with pytest.raises(FloatingPointError, match="dopri5 with tolerance 1e-10 failed at t = .*max_num_steps exceeded"):
        model.push(torch.randn(3, 2).double())
    runaway = quadratic(GradientFlow(400.0), torch.tensor([-9.0, -9.0]))
    with pytest.raises(SolverError, match="rk4 with 10 steps left the finite numbers"):
        runaway.sample(3)


def test_bad_settings_are_named():
    for build, told in (
        (lambda: Langevin(0, 0.1), "steps must be a positive whole number; got 0"),
        (lambda: Langevin(2, -0.1), "step must be positive; got -0.1"),
        (lambda: Langevin(2, 0.1, -1), "noise must not be negative; got -1"),
        (lambda: Langevin(2, 0.1, log_det="luck"), "log_det must be one of .*; got 'luck'"),
        (lambda: GradientFlow(0), "time must be positive; got 0"),
        (lambda: GradientFlow(1.0, solver="heun"), "solver must be one of .*; got 'heun'"),
        (lambda: GradientFlow(1.0, steps=0), "steps must be a positive whole number; got 0"),
        (lambda: GradientFlow(1.0, tolerance=0), "tolerance must be positive; got 0"),
        (lambda: GradientFlow(1.0, trace="none"), "trace must be .*; got 'none'"),
    ):
        with pytest.raises(ValueError, match=told):
            build()


def test_a_plane_shifts_the_noise_and_keeps_its_density():
    """E = wᵀx, whose second derivatives are 0, or, confined, constant."""
    w = torch.tensor([0.5, -1.0], dtype=torch.float64)
    x = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    normal = StandardNormal(2).double()
    for dynamics in (GradientFlow(0.4, steps=4), Langevin(4, 0.2, noise=0)):
        model = ShortRun(lambda x: x @ w, dynamics, event_shape=(2,)).double()
        assert torch.allclose(model.log_prob(x), normal.log_prob(x + 0.4 * w))
    plane = nn.Sequential(nn.Flatten(1), nn.Linear(2, 1), nn.Flatten(0)).double()
    flow = ShortRun(Confined(plane, 0.5), GradientFlow(0.4, steps=40), event_shape=(2,)).double()
    slope = plane[1].weight[0]
    began = math.exp(0.4) * (x + slope) - slope  # x′ = −x − slope
    assert torch.allclose(flow.log_prob(x), normal.log_prob(began) + 0.8, atol=1e-7)


class Pushed(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, z):
        return self.model.push(z)


def test_steps_whose_weights_were_swapped_are_refused_on_the_way_back():
    pushed = Pushed(ShortRun(mlp_energy(2, (8,)), Langevin(3, 0.1, noise=0), event_shape=(2,)))
    other = {name: p.detach().clone().requires_grad_() for name, p in pushed.named_parameters()}
    end = torch.func.functional_call(pushed, other, (torch.zeros(4, 2),))
    with pytest.raises(RuntimeError, match="no longer uses the weights"):
        end.sum().backward()
