"""Noise that was looked for, beside closed forms and exact inverses; noise between noises, by its moments."""

import math

import pytest
import torch
from torch import nn

from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.inversion import interpolate, reconstruct
from gmcourse.compositions.short_run import ShortRun
from gmcourse.ebm import conv_energy, mlp_energy
from gmcourse.flows import real_nvp
from gmcourse.model import GenerativeModel, StandardNormal
from gmcourse.nets.confined import Confined

RATES = torch.tensor([0.5, 2.0])


def bowl(x):
    """½ Σ aᵢ xᵢ²: x(T) = e^{−aT} x₀, and K steps of descent give (1 − ηa/2)^K x₀."""
    return 0.5 * (RATES.to(x) * x.square()).sum(1)


def small_net(seed=0):
    torch.manual_seed(seed)
    return Confined(mlp_energy(2, (16, 16), input_scale=3.0))


class Sheets(GenerativeModel):
    """x = z² + shift, from the block z of its noise; a block v does nothing but move x. Two z for every x, ±√x."""

    noise_blocks = {"z": 1, "v": 1}

    def __init__(self):
        super().__init__((1,))
        self.shift = nn.Parameter(torch.zeros(1))

    def noise(self, n, *, generator=None):
        return torch.randn(n, 2, generator=generator)

    def push(self, eps):
        return eps[:, :1].square() + eps[:, 1:] + self.shift


def found(model, x, **settings):
    return reconstruct(model, x, progress=False, generator=torch.Generator().manual_seed(1), **settings)


def test_on_a_quadratic_the_noise_is_that_of_the_closed_form_and_of_the_exact_inverse():
    descent = Langevin(6, 0.1, noise=0, checkpointed=False)
    for dynamics, shrunk in ((GradientFlow(0.3, steps=3), torch.exp(-0.3 * RATES)), (descent, (1 - 0.05 * RATES) ** 6)):
        model = ShortRun(bowl, dynamics, event_shape=(2,)).eval()
        x = torch.tensor([[0.3, -0.2], [-1.0, 0.5], [0.0, 0.0]])
        back = found(model, x)
        assert torch.allclose(back.z, x / shrunk, atol=5e-3)
        assert torch.allclose(back.z, model.flow().encode(x)[0].detach(), atol=5e-3)
        assert back.error.max() < 1e-5


@pytest.mark.parametrize("dynamics", [GradientFlow(0.1, steps=2), Langevin(5, 0.04, noise=0, checkpointed=False)])
def test_on_a_net_it_finds_the_noise_that_the_samples_came_from(dynamics):
    model = ShortRun(small_net(), dynamics, event_shape=(2,)).eval()
    eps = model.noise(8, generator=torch.Generator().manual_seed(0))
    x = model.push(eps).detach()
    back = found(model, x)
    assert torch.allclose(back.z, eps, atol=0.02) and torch.allclose(back.z, model.flow().encode(x)[0].detach(), atol=0.02)
    assert torch.allclose(back.x, x, atol=5e-3)


def test_error_and_picture_are_those_of_the_noise_it_gives_and_the_course_leads_there():
    model = ShortRun(small_net(), Langevin(5, 0.04, noise=0), event_shape=(2,)).eval()
    x = model.sample(6)
    back = found(model, x, steps=30)
    with torch.no_grad():
        assert torch.allclose(model.push(back.z), back.x, atol=1e-6)
    assert torch.allclose((back.x - x).square().mean(1), back.error)
    assert back.course.shape == (31, 6)
    assert torch.allclose(back.error, back.course.min(0).values, rtol=1e-3, atol=1e-7)
    start = model.noise(6, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(back.course[0], (model.push(start).detach() - x).square().mean(1), rtol=1e-4)


def test_the_most_probable_noise_of_a_linear_way_is_that_of_ridge_regression():
    """With x = c z the minimum of (x − cz)²/d + λ z²/2 is z = 2c x/(2c² + λ d), coordinate by coordinate."""
    model = ShortRun(bowl, Langevin(4, 0.1, noise=0, checkpointed=False), event_shape=(2,)).eval()
    c, x, weight = (1 - 0.05 * RATES) ** 4, torch.tensor([[1.0, -1.0], [0.4, 2.0]]), 0.7
    back = found(model, x, weight_noise=weight)
    assert torch.allclose(back.z, 2 * c * x / (2 * c.square() + 2 * weight), atol=2e-3)
    assert (back.z.norm(dim=1) < (x / c).norm(dim=1)).all()


def test_every_datum_goes_its_way_alone():
    model = StandardNormal(2)
    x = torch.tensor([[0.5, 0.1], [9.0, -9.0]])
    for row in range(2):  # the start of row k is the k-th draw
        alone = reconstruct(Shifted(row), x[row : row + 1], steps=20, progress=False)
        both = reconstruct(Shifted(0), x, steps=20, progress=False)
        assert torch.allclose(alone.z, both.z[row : row + 1])
    assert found(model, x).error[0] < 1e-5


class Shifted(StandardNormal):
    """N(0, I) whose draws are written down, from the row `first` on."""

    def __init__(self, first):
        super().__init__(2)
        self.first = first

    def noise(self, n, *, generator=None):
        return torch.tensor([[0.2, -0.3], [1.0, 0.7]])[self.first : self.first + n]


def test_more_starts_are_never_worse_and_some_data_need_them():
    """E has hills: from a single start a way can end in a valley of the error."""

    class Waves(StandardNormal):
        def push(self, eps):
            return eps + 1.2 * (3 * eps).sin()

    model, x = Waves(1), torch.linspace(-1, 1, 40)[:, None]
    one, five = found(model, x, steps=60), found(model, x, steps=60, restarts=8)
    assert (one.error > 1e-2).any() and five.error.max() < 1e-4
    assert five.z.shape == (40, 1) and five.course.shape == (61, 40)
    assert torch.allclose(model.push(five.z), five.x)


def test_blocks_that_are_not_looked_for_stand_at_zero_or_at_one_draw():
    model, x = Sheets(), torch.tensor([[1.0], [4.0]])
    back = found(model, x)
    assert torch.equal(back.z[:, 1], torch.zeros(2)) and torch.allclose(
        back.z[:, 0].abs(), torch.tensor([1.0, 2.0]), atol=1e-2
    )
    drawn = found(model, x, held="draw")
    assert torch.equal(drawn.z[:, 1], model.noise(2, generator=torch.Generator().manual_seed(1))[:, 1])
    both = found(model, -x, blocks=("z", "v"))
    assert both.error.max() < 1e-4 and (both.z[:, 1] < -0.9).all()
    assert found(model, -x).error.min() > 0.9  # z² alone can't be negative


def test_the_noise_on_a_noisy_way_is_held_and_its_beginning_is_found():
    model = ShortRun(bowl, Langevin(4, 0.1, checkpointed=False), event_shape=(2,)).eval()
    x = model.sample(3, generator=torch.Generator().manual_seed(0))
    back = found(model, x)
    assert back.z.shape == (3, 10) and torch.equal(back.z[:, 2:], torch.zeros(3, 8))
    assert torch.allclose(back.z[:, :2], x / (1 - 0.05 * RATES) ** 4, atol=5e-3)
    drawn = found(model, x, held="draw")
    assert drawn.error.max() < 1e-5 and (drawn.z[:, 2:].std() > 0.5)


@pytest.mark.parametrize("training", [True, False])
def test_weights_and_modes_are_left_alone(training):
    net = nn.Sequential(conv_energy((1, 8, 8), (4, 8)), nn.Dropout(0.5))
    model = ShortRun(net, Langevin(3, 0.1, noise=0), event_shape=(1, 8, 8)).train(training)
    next(net.parameters()).requires_grad_(False)
    wanted = [p.requires_grad for p in model.parameters()]
    before = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        back = found(model, torch.randn(2, 1, 8, 8), steps=3)
    assert all(p.grad is None and torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True))
    assert [p.requires_grad for p in model.parameters()] == wanted
    assert all(part.training is training for part in model.modules())
    assert back.x.shape == (2, 1, 8, 8) and not any(t.requires_grad for t in back)


def test_checkpointed_steps_lead_to_the_same_noise():
    x = torch.tensor([[0.3, -0.2]])
    ends = [
        found(ShortRun(small_net(), Langevin(4, 0.05, 0.0, checkpointed=kept), event_shape=(2,)), x, steps=20).z
        for kept in (True, False)
    ]
    assert torch.allclose(*ends, atol=1e-5)


def test_other_transports_can_be_gone_back_too():
    torch.manual_seed(0)
    flow = real_nvp((2,)).eval()
    x = flow.sample(4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(found(flow, x).z, flow.encode(x)[0].detach(), atol=0.02)


def test_the_same_seed_gives_the_same_noise_and_double_precision_stays():
    model = ShortRun(bowl, Langevin(3, 0.1, 0.0), event_shape=(2,)).double()
    x = torch.ones(2, 2, dtype=torch.float64)
    once, again = found(model, x, steps=5), found(model, x, steps=5)
    assert torch.equal(once.z, again.z) and once.z.dtype == once.error.dtype == torch.float64


def test_noise_between_independent_normal_noises_is_normal():
    """Mean 0, variance 1 and kurtosis 3 of 40 000 numbers at every ρ, within 5 standard errors; correlation ρ with z₁."""
    generator, n = torch.Generator().manual_seed(0), 40_000
    z1, z2 = torch.randn(2, n, 1, generator=generator, dtype=torch.float64)
    rho = torch.linspace(0, 1, 7, dtype=torch.float64)
    between = interpolate(z1, z2, rho)[..., 0]
    assert between.shape == (7, n)
    assert (between.mean(1).abs() < 5 / math.sqrt(n)).all()
    assert ((between.square().mean(1) - 1).abs() < 5 * math.sqrt(2 / n)).all()
    assert ((between.pow(4).mean(1) - 3).abs() < 5 * math.sqrt(96 / n)).all()
    assert (((between * z1[:, 0]).mean(1) - rho).abs() < 5 * ((1 + rho.square()) / n).sqrt()).all()


def test_interpolation_ends_at_its_ends():
    z1, z2 = torch.randn(2, 3, 5)
    assert torch.equal(interpolate(z1, z2, 1.0), z1) and torch.equal(interpolate(z1, z2, 0), z2)
    assert torch.allclose(interpolate(z1, z2, 0.6), 0.6 * z1 + 0.8 * z2)
    assert torch.allclose(interpolate(z1, z2, [0.6])[0], 0.6 * z1 + 0.8 * z2)
    assert interpolate(z1, z2, torch.rand(4)).shape == (4, 3, 5)


def test_bad_input_is_named():
    model, x = StandardNormal(2), torch.zeros(3, 2)
    for settings, told in (
        ({"steps": 0}, "steps must be a positive whole number; got 0"),
        ({"restarts": 0}, "restarts must be a positive whole number; got 0"),
        ({"lr": 0}, "lr must be positive; got 0"),
        ({"weight_noise": -1}, "weight_noise must not be negative; got -1"),
        ({"held": "mean"}, r"held must be one of \('zero', 'draw'\); got 'mean'"),
        ({"blocks": "u"}, "blocks must be some of z; got u"),
        ({"blocks": ()}, "blocks must be some of z; got none"),
    ):
        with pytest.raises(ValueError, match=told):
            found(model, x, **settings)
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\); got \(3, 4\)"):
        found(model, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="x must be finite; 1 of 3 rows"):
        found(model, torch.tensor([[0.0, 1.0], [math.nan, 0.0], [0.0, 0.0]]))
    with pytest.raises(ValueError, match="model must be a transport, with noise and push; GenerativeModel has no noise"):
        found(GenerativeModel((2,)), x)

    class Steps(StandardNormal):
        def push(self, eps):
            return eps.detach().round()

    with pytest.raises(ValueError, match="model.push must be differentiable in the noise; that of Steps is not"):
        found(Steps(2), x)
    with pytest.raises(ValueError, match=r"z1 and z2 must have the same shape; got \(3, 2\) and \(2,\)"):
        interpolate(x, x[0], 0.5)
    with pytest.raises(ValueError, match=r"rho must lie in \[0, 1\]; got 1.5"):
        interpolate(x, x, 1.5)
    with pytest.raises(ValueError, match=r"rho must lie in \[0, 1\]; got nan"):
        interpolate(x, x, math.nan)
    with pytest.raises(ValueError, match=r"rho must be a number, or have shape \(k,\); got \(2, 2\)"):
        interpolate(x, x, torch.zeros(2, 2))


def test_a_way_that_diverges_is_reported():
    model = ShortRun(lambda x: 1e3 * x.pow(4).sum(1), Langevin(8, 1.0, 0.0, checkpointed=False), event_shape=(2,))
    with pytest.raises(FloatingPointError, match="left the finite numbers at step"):
        found(model, torch.ones(2, 2))
