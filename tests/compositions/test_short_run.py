"""Short-run dynamics as a model: a transport, a density where it has one, two readings of an energy, runs that diverge."""

import math
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from gmcourse import checkpoint
from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.self_contrast import SelfContrast, exact_likelihood
from gmcourse.compositions.short_run import ShortRun
from gmcourse.ebm.energy import mlp_energy
from gmcourse.fit import fit
from gmcourse.flows.solve import SolverError
from gmcourse.model import Likelihood
from gmcourse.nets.confined import Confined
from gmcourse.training.best import KeepBest

FREE, NOISY, FLOW = Langevin(5, 0.1, noise=0), Langevin(5, 0.1), GradientFlow(0.4, steps=8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def model_of(dynamics, objective=None) -> ShortRun:
    torch.manual_seed(0)
    return ShortRun(Confined(mlp_energy(2, (16, 16), input_scale=2.0)), dynamics, event_shape=(2,), objective=objective)


def bowl(curvature):
    """½ a x²."""
    return lambda x: curvature * x.flatten(1).square().sum(1) / 2


@pytest.mark.parametrize("dynamics", [FREE, NOISY, FLOW])
def test_a_sample_is_a_function_of_the_noise(dynamics):
    model = model_of(dynamics)
    blocks = {"z": 2, "u": 10} if dynamics.noisy else {"z": 2}
    eps = model.noise(7, generator=seeded())
    assert model.noise_blocks == blocks and eps.shape == (7, sum(blocks.values()))
    with torch.no_grad():
        assert torch.equal(model.push(eps), model.push(eps))
        assert torch.equal(model.sample(7, generator=seeded()), model.push(eps))
    assert torch.allclose(model.push(eps), model.sample(7, generator=seeded()), atol=1e-5)
    assert torch.allclose(model.path(eps)[-1], model.push(eps), atol=1e-5)
    assert model.likelihood is (Likelihood.NONE if dynamics.noisy else Likelihood.EXACT)
    assert model.nfe == (32 if dynamics is FLOW else 5)


def test_noise_on_the_way_is_the_u_of_langevins_equation():
    """x′ = x − (η/2)ax + √η u_k, step by step, in the order in which the flat noise has them; (5.3), (5.4)."""
    model = ShortRun(bowl(2.0), Langevin(3, 0.2), event_shape=(1, 2))
    eps = torch.randn(4, 8, generator=seeded())
    x = eps[:, :2]
    for k in range(3):
        x = x - 0.1 * 2 * x + math.sqrt(0.2) * eps[:, 2 * k + 2 : 2 * k + 4]
    assert torch.allclose(model.push(eps), x.reshape(4, 1, 2), atol=1e-6)


@pytest.mark.parametrize("dynamics", [FREE, FLOW, Langevin(5, 0.1, noise=0, log_det="series")])
def test_the_density_of_the_way_integrates_to_one(dynamics):
    """By the midpoint rule on a grid; the energy read as a density does, too, and is another one."""
    model = model_of(dynamics).eval()
    axis = (torch.arange(80) + 0.5) / 80 * 10 - 5
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        log_p = model.log_prob(grid)
        log_e = model.as_ebm([(-5, 5)] * 2).log_prob(grid)
    cell = (10 / 80) ** 2
    assert float(log_p.exp().sum() * cell) == pytest.approx(1, abs=3e-3)
    assert float(log_e.exp().sum() * cell) == pytest.approx(1, abs=3e-3)
    assert float((log_p.exp() * (log_p - log_e)).sum() * cell) > 0.05


def test_the_flow_is_the_model():
    model = model_of(FLOW)
    flow, eps = model.flow(), model.noise(6, generator=seeded())
    with torch.no_grad():
        x = model.push(eps)
        assert torch.allclose(flow.push(eps), x, atol=1e-5)
        assert torch.equal(flow.log_prob(x), model.log_prob(x))
        assert torch.allclose(flow.encode(x)[0], eps, atol=1e-4)
    assert {id(p) for p in flow.parameters()} == {id(p) for p in model.parameters()}


def test_other_readings_share_the_weights_and_leave_modes_alone():
    model = model_of(NOISY, SelfContrast(0.5)).train()
    model.energy.net.eval()  # a part that is held
    others = [model.under(FREE), model.as_ebm([(-3, 3)] * 2), model.under(FLOW).flow()]
    with torch.no_grad():
        next(model.parameters()).add_(1)
    for other in others:
        assert {id(p) for p in other.parameters()} == {id(p) for p in model.parameters()}
        assert other.training and model.energy.training and not model.energy.net.training
    assert others[0].objective is model.objective and others[0].dynamics is FREE
    x = torch.randn(3, 2)
    assert torch.equal(model.as_ebm().log_prob(x), -model.energy(x))
    with pytest.raises(ValueError, match="has no objective; train the ShortRun"):
        others[1].loss(x)


def test_weights_are_stored_once_and_come_back(tmp_path):
    model = model_of(FLOW, SelfContrast(1.0))
    assert set(model.state_dict()) == {f"energy.{name}" for name in model.energy.state_dict()}
    checkpoint.save(tmp_path / "m.safetensors", model)
    torch.manual_seed(5)
    other = ShortRun(Confined(mlp_energy(2, (16, 16))), FLOW, event_shape=(2,))
    checkpoint.load(tmp_path / "m.safetensors", other)
    x = torch.randn(4, 2)
    with torch.no_grad():
        assert torch.equal(other.log_prob(x), model.log_prob(x))
        assert torch.equal(other.sample(3, generator=seeded()), model.sample(3, generator=seeded()))


@pytest.mark.parametrize("dynamics", [FREE, NOISY, FLOW])
def test_a_plain_function_will_do_as_an_energy(dynamics):
    """Not to be trained; gradients in the noise are there, which is what reconstruction takes."""
    model = ShortRun(bowl(1.0), dynamics, event_shape=(3,))
    eps = model.noise(4, generator=seeded()).requires_grad_()
    end = model.push(eps)
    (slope,) = torch.autograd.grad(end.sum(), eps)
    factor = math.exp(-0.4) if dynamics is FLOW else 0.95**5
    assert torch.allclose(slope[:, :3], torch.full((4, 3), factor), atol=1e-5)
    assert list(model.parameters()) == [] and model.sample(2).shape == (2, 3)
    if not dynamics.noisy:
        exact = model.prior.log_prob(end / factor) - 3 * math.log(factor)
        assert torch.allclose(model.log_prob(end), exact, atol=1e-4)


def test_neither_sampling_nor_a_density_without_gradients_leaves_a_graph():
    for dynamics in (FREE, NOISY, FLOW):
        model = model_of(dynamics)
        assert not model.sample(3).requires_grad and not model.path(model.noise(3)).requires_grad
        assert all(p.requires_grad for p in model.parameters())
        if not dynamics.noisy:
            with torch.no_grad():
                assert not model.log_prob(torch.randn(3, 2)).requires_grad
            assert model.log_prob(torch.randn(3, 2)).requires_grad


def test_a_density_draws_no_random_numbers_and_is_that_of_the_energy_in_evaluation_mode():
    torch.manual_seed(0)
    layers = [spectral_norm(nn.Linear(2, 16)), nn.SiLU(), nn.Dropout(0.5), nn.Linear(16, 1), nn.Flatten(0)]
    for dynamics in (FREE, FLOW):
        model = ShortRun(nn.Sequential(*layers), dynamics, event_shape=(2,))
        x, before = torch.randn(4, 2), torch.get_rng_state()
        learning, evaluated = model.train().log_prob(x), model.eval().log_prob(x)
        assert torch.equal(learning, evaluated)
        assert torch.equal(torch.get_rng_state(), before)
        model.train().push(model.noise(2, generator=seeded()))
        assert model.energy[2].training


def test_steps_that_may_fold_space_are_told_with_the_lipschitz_estimate_and_safe_ones_are_not():
    """η/2 · a = 0.05 · 30; in training mode nothing is said."""
    x = torch.randn(5, 2, generator=seeded()) * 0.01
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ShortRun(bowl(19.0), FREE, event_shape=(2,)).eval().log_prob(x)
        ShortRun(bowl(30.0), FLOW, event_shape=(2,)).eval().log_prob(x)
    told = "step 0.1 times half the Lipschitz constant of ∇E, as found at x and noise, should be below 1, and is 1.5"
    with pytest.warns(UserWarning, match=told), pytest.raises(SolverError, match=f"led back .*no fixed point.*{told}"):
        ShortRun(bowl(30.0), FREE, event_shape=(2,)).eval().log_prob(x)
    with warnings.catch_warnings(), pytest.raises(FloatingPointError, match=told):
        warnings.simplefilter("error")
        ShortRun(bowl(30.0), FREE, event_shape=(2,)).train().log_prob(x)


def test_what_may_bend_downwards_as_it_likes_is_one_to_one():
    """Sharp hills, η/2·λ = −3 and 0.8: no condition of Lipschitz holds, yet no two points meet; upwards by 1.5 they do."""
    line = torch.linspace(-2, 2, 2001, dtype=torch.float64)[:, None]

    def end(curvature):
        wave = lambda x: torch.where(x < 0, curvature, 16.0).mul(x.square()).sum(1) / 2  # noqa: E731
        return ShortRun(wave, Langevin(1, 0.1, noise=0), event_shape=(1,)).push(line).flatten()

    assert (end(-60.0).diff() > 0).all() and not (end(30.0).diff() > 0).all()


class Bowl(nn.Module):
    """½ a‖x‖², a = e^s."""

    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.tensor(-2.0))

    def forward(self, x):
        return self.s.exp() * x.square().sum(1) / 2


@pytest.mark.parametrize(
    ("dynamics", "told"),
    [
        (Langevin(200, 0.5, noise=0), "left the finite numbers at step"),
        (GradientFlow(4.0, steps=16), "rk4 with 16 steps left the finite numbers|the energy is not finite"),
        (GradientFlow(4.0, solver="dopri5", max_steps=20), "dopri5 .* failed at t = .*max_num_steps"),
    ],
)
def test_a_training_that_diverges_gives_back_the_best_weights(dynamics, told):
    """All data lie at 0, so that the bowl gets narrower without end; the criterion likes s = 0, some steps on."""
    model = ShortRun(Bowl(), dynamics, event_shape=(2,))
    best = KeepBest(model, lambda m: m.energy.s.abs(), every=1)
    with pytest.raises(FloatingPointError, match=rf"diverged after \d+ steps: .*({told}).*weights of step [23] again"), best:
        settings = {"lr": 1.0, "optimizer": torch.optim.Adam}
        fit(model, torch.zeros(64, 2), steps=60, batch_size=64, callback=best, progress=False, **settings)
    assert best.done > 2 and abs(float(model.energy.s.detach())) < 0.3 and model.sample(3).isfinite().all()


def test_training_by_either_objective_brings_the_samples_to_the_data():
    """A narrow Gaussian: the standard deviation of the samples goes from 1 to about 0.4."""
    data = 0.4 * torch.randn(2000, 2, generator=seeded())
    for objective in (SelfContrast(), exact_likelihood):
        model = ShortRun(Bowl(), GradientFlow(0.5, steps=4), event_shape=(2,), objective=objective)
        fit(model, data, steps=60, lr=0.1, batch_size=200, progress=False)
        assert model.sample(4000, generator=seeded(1)).std() == pytest.approx(0.4, abs=0.08), objective


def test_bad_input_is_named():
    noisy, free = model_of(NOISY), model_of(FREE)
    strange = ShortRun(bowl(1.0), FREE, event_shape=(2,), objective=lambda model, x: x)
    silent = ShortRun(bowl(1.0), FREE, event_shape=(2,), objective=lambda model, x: 3.0)
    flat = ShortRun(lambda x: x.square(), FREE, event_shape=(2,))
    x = torch.zeros(3, 2)
    for act, told in (
        (lambda: noisy.push(x), r"eps must have shape \(n, 12\); got \(3, 2\)"),
        (lambda: noisy.path(torch.zeros(12)), r"eps must have shape \(n, 12\); got \(12,\)"),
        (lambda: noisy.log_prob(x), "noise on its way has no density in closed form; got noise = 0.316"),
        (lambda: noisy.flow(), "noise on its way"),
        (lambda: noisy.sample(0), "n must be a positive whole number; got 0"),
        (lambda: free.log_prob(torch.zeros(3, 4)), r"x must have shape \(n, 2\); got \(3, 4\)"),
        (lambda: free.loss(torch.zeros(3, 2).long()), "x must hold floating-point numbers"),
        (lambda: strange.loss(x), r"objective must return shape \(n,\), or a scalar; got \(3, 2\) for 3 data"),
        (lambda: silent.loss(x), r"objective must return shape \(n,\), or a scalar; got float for 3 data"),
        (lambda: flat.sample(3), r"energy must return shape \(n,\); got \(3, 2\)"),
        (lambda: flat.push(x), r"energy must return shape \(n,\); got \(3, 2\)"),
    ):
        with pytest.raises(ValueError, match=told):
            act()
    assert free.log_prob(torch.zeros(0, 2)).shape == (0,)


def test_precision_and_event_shape_are_the_energys():
    model = model_of(FREE).double()
    assert model.sample(2).dtype == model.noise(2).dtype == torch.float64
    image = ShortRun(bowl(1.0), FREE, event_shape=(1, 3, 3))
    assert image.path(image.noise(2)).shape == (6, 2, 1, 3, 3) and image.log_prob(image.sample(2)).shape == (2,)
