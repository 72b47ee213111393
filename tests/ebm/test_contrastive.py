"""Maximum likelihood with chains, against log-likelihoods by quadrature and Gaussian chains in closed form."""

import math
from functools import partial

import pytest
import torch
from problems.gaussian_energy import GaussianEnergy
from scipy.optimize import brentq
from torch import nn

from gmcourse import fit
from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.ebm.contrastive import MaximumLikelihood, contrastive, temperature_of
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy, spectral_regularisation
from gmcourse.metrics.grid import Grid
from gmcourse.model import StandardNormal
from gmcourse.sampling import HMC, MALA

N = 100_000


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


class Quadratic(nn.Module):
    """E(x) = Σ ½ λ (x − m)², with a mean and a precision for every number of x: N(m, 1/λ)."""

    def __init__(self, m=0.0, precision=1.0, shape=()):
        super().__init__()
        self.m = nn.Parameter(torch.full(shape, m, dtype=torch.float64))
        self.log_precision = nn.Parameter(torch.full(shape, precision, dtype=torch.float64).log())

    def forward(self, x):
        return (0.5 * self.log_precision.exp() * (x - self.m).square()).reshape(len(x), -1).sum(1)


def flat_grad(loss, net):
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)])


@pytest.mark.parametrize("count", [1000, N])
def test_with_exact_samples_the_gradient_is_that_of_the_exact_likelihood(count):
    """A small net in the plane. The likelihood's gradient comes by autograd through a quadrature of log Z; the negatives are
    drawn on the same nodes, and their error is known from the gradients at all nodes. One for each datum, or any number."""
    torch.manual_seed(0)
    net = mlp_energy(2, (5,), input_scale=3.0).double()
    grid, x = Grid([(-2.0, 2.0)] * 2, 40), normal(1000, 2)
    log_z = (-net(grid.nodes)).logsumexp(0) + math.log(grid.cell)
    exact = flat_grad(net(x).mean() + log_z, net)

    p = (-net(grid.nodes)).softmax(0).detach()
    at_nodes = torch.stack([flat_grad(net(node[None]).sum(), net) for node in grid.nodes])
    error = ((p @ (at_nodes - p @ at_nodes).square()) / count).sqrt()
    negatives = grid.nodes[torch.multinomial(p, count, replacement=True, generator=seeded())]
    found = flat_grad(contrastive(net, x, negatives).mean(), net)
    assert ((found - exact).abs() < 4.5 * error + 1e-12).all()
    without = flat_grad(net(x).mean(), net)
    assert ((without - exact).abs() > 20 * error).any()


def test_the_loss_is_the_difference_of_energies_pair_by_pair_or_to_the_mean():
    energy, x, other = GaussianEnergy(2.0), normal(5, 2), normal(5, 2, seed=1)
    e, f = energy(x), energy(other)
    assert torch.allclose(contrastive(energy, x, other), e - f)
    assert torch.allclose(contrastive(energy, x, other[:3]), e - f[:3].mean())
    assert torch.allclose(contrastive(energy, x, other, l2=0.1), e - f + 0.1 * (e.square() + f.square()))
    wanted = e - f[:3].mean() + 0.1 * (e.square() + f[:3].square().mean())
    assert torch.allclose(contrastive(energy, x, other[:3], l2=0.1), wanted)


def test_no_gradient_reaches_the_negatives():
    negatives = normal(5, 2, seed=1).requires_grad_()
    contrastive(GaussianEnergy(2.0), normal(5, 2), negatives).sum().backward()
    assert negatives.grad is None


@pytest.mark.parametrize("shape", [(5, 3), (0, 2), (5,)])
def test_negatives_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="negatives must be points of x's shape"):
        contrastive(GaussianEnergy(), normal(5, 2), torch.zeros(shape, dtype=torch.float64))


def gradient_at(precision, objective, variance):
    """The mean gradient in the precision and its standard error, on N draws of N(0, variance)."""
    energy, x = Quadratic(precision=precision), variance**0.5 * normal(N)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ends = objective.negatives(energy, x)
        torch.manual_seed(1)
        objective(energy, x).mean().backward()
    each = precision * (x.square() - ends.square()) / 2
    assert energy.log_precision.grad.item() == pytest.approx(each.mean().item(), rel=1e-6)
    return each.mean().item(), each.std().item() / N**0.5


@pytest.mark.parametrize("steps", [1, 10])
@pytest.mark.parametrize(("step", "temperature"), [(0.2, 1.0), (0.2, 0.25), (0.1, 3.0)])
def test_cd_is_at_rest_where_the_data_are_the_stationary_law_of_its_chain(steps, step, temperature):
    """v = T/(λ(1 − ηλ/4)), whatever k: at T ≠ 1 not where λ = 1/v, and e^{−E/T} is the model that fits."""
    v = 0.6
    rest = brentq(lambda a: temperature / (a * (1 - step * a / 4)) - v, 1e-6, 2 / step)
    objective = MaximumLikelihood(steps=steps, step=step, temperature=temperature)
    found, error = gradient_at(rest, objective, v)
    assert abs(found) < 4.5 * error
    elsewhere, error = gradient_at(1.25 * rest, objective, v)
    assert elsewhere > 6 * error


@pytest.mark.parametrize("steps", [3, 10])
def test_short_chains_from_noise_learn_an_energy_that_is_not_the_datas(steps):
    """Their law after k steps is N(0, a²ᵏ + ηT(1 − a²ᵏ)/(1 − a²)), a = 1 − ηλ/2: that is what comes to match v."""
    v, step = 0.6, 0.1

    def after(precision):
        a = (1 - step * precision / 2) ** 2
        return a**steps + step * (1 - a**steps) / (1 - a)

    rest = brentq(lambda precision: after(precision) - v, 1e-3, 2 / step)
    assert rest > 1.1 / v
    for start in ("noise", StandardNormal(()).double()):
        found, error = gradient_at(rest, MaximumLikelihood(steps=steps, step=step, start=start), v)
        assert abs(found) < 4.5 * error
    at_truth, error = gradient_at(1 / v, MaximumLikelihood(steps=steps, step=step, start="noise"), v)
    assert abs(at_truth) > 10 * error


def test_persistent_chains_with_metropolis_tests_recover_mean_and_precision():
    """Against the maximum-likelihood estimate, the mean and variance of the data, in six independent copies."""
    data = 1.5 + 0.5 * normal(1000)
    buffer = ReplayBuffer(StandardNormal(6).double(), 1000, restart=0.0)
    objective = MaximumLikelihood(steps=5, step=0.2, start=buffer, sampler=MALA)
    energy, tail = Quadratic(shape=(6,)), []
    optimizer = torch.optim.Adam(energy.parameters(), lr=0.05)
    torch.manual_seed(0)
    for k in range(200):
        optimizer.zero_grad()
        objective(energy, data[:, None].expand(-1, 6)).mean().backward()
        optimizer.step()
        if k >= 100:
            tail.append(torch.stack([energy.m, energy.log_precision]).detach())
    found = torch.stack(tail).mean(0)
    error = found.std(1) / 6**0.5
    wanted = torch.stack([data.mean(), -data.var(correction=0).log()])
    assert (error < 0.02).all() and ((found.mean(1) - wanted).abs() < 4.5 * error).all()
    assert abs(wanted[0] - 1.5) < 4.5 * 0.5 / 1000**0.5


def test_the_noise_of_a_step_is_the_root_of_step_times_temperature():
    objective = MaximumLikelihood(steps=1, step=0.3, temperature=0.7)
    x = torch.zeros(N, dtype=torch.float64)
    moved = objective.negatives(lambda x: 0 * x, x)
    assert objective.noise == pytest.approx(math.sqrt(0.21)) and objective.temperature == 0.7
    assert abs(moved.std().item() - objective.noise) < 4.5 * objective.noise / (2 * N) ** 0.5
    assert temperature_of(0.3, objective.noise) == pytest.approx(0.7)


def test_noise_is_said_of_langevin_alone():
    """A leapfrog of momenta has another: what HMC adds to x in one step is η√T, not √(ηT)."""
    settings = {"steps": 1, "step": 0.3, "temperature": 0.7}
    assert MaximumLikelihood(**settings, sampler=MALA).noise == pytest.approx(math.sqrt(0.21))
    hmc = MaximumLikelihood(**settings, sampler=partial(HMC, leaps=1))
    assert hmc.noise is None and "noise=" not in repr(hmc).replace("data_noise", "")
    assert "noise=0.458" in repr(MaximumLikelihood(**settings))


def test_clip_bounds_the_drift_of_a_chain():
    x = normal(50, 2)
    objective = MaximumLikelihood(steps=1, step=0.2, temperature=0.0, clip=3.0)
    moved = (objective.negatives(GaussianEnergy(1e4), x) - x).norm(dim=1)
    assert torch.allclose(moved, torch.full_like(moved, 0.3))


def test_noise_on_the_data_and_a_penalty_enter_the_loss():
    x, net = torch.zeros(N, 1, dtype=torch.float64), nn.Sequential(nn.Linear(1, 1, bias=False), nn.Flatten(0)).double()
    objective = MaximumLikelihood(steps=1, step=1e-12, start="noise", data_noise=0.5)
    seen = objective(lambda x: x[:, 0], x) + 0  # E(x + 0.5 ε) − E(ε'), both of mean 0
    assert seen.var().item() == pytest.approx(1.25, abs=5 * 1.25 * (2 / N) ** 0.5)
    batches = []
    objective(lambda x: batches.append(x.detach()) or x[:, 0], x)
    noisy = batches[-1][:N, 0] / 0.5  # the last call's are the data, then the negatives
    assert noisy.pow(4).mean().item() == pytest.approx(3, abs=4.5 * (96 / N) ** 0.5)  # a normal law's; 1.8 of a uniform one
    penalty = partial(spectral_regularisation, kinds=(nn.Linear,))
    with_it = MaximumLikelihood(steps=1, step=0.1, temperature=0.0, penalty=penalty)(net, x)
    without = MaximumLikelihood(steps=1, step=0.1, temperature=0.0)(net, x)
    assert torch.allclose(with_it - without, net[0].weight.abs().squeeze())


def test_other_samplers_serve_as_well():
    x = normal(20_000)
    hmc = partial(HMC, leaps=3)
    for sampler in (MALA, hmc):
        ends = MaximumLikelihood(steps=5, step=0.3, sampler=sampler).negatives(Quadratic(), x)
        assert abs(ends.var() - 1) < 4.5 * (2 / 20_000) ** 0.5


class Spy(nn.Module):
    """½ w ‖x‖² that notes how it was called."""

    def __init__(self):
        super().__init__()
        self.w, self.kept = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()), requires_grad=False)
        self.drop = nn.Dropout(0.5).eval()
        self.seen = []

    def forward(self, x):
        self.seen.append((self.training, self.w.requires_grad))
        return self.w * x.square().sum(1) / 2


def test_while_chains_run_the_weights_are_held_and_the_net_evaluates():
    energy = Spy()
    MaximumLikelihood(steps=4, step=0.1)(energy, torch.randn(5, 2))
    assert energy.seen == [(False, False)] * 4 + [(True, True)]
    assert energy.training and not energy.drop.training and energy.w.requires_grad and not energy.kept.requires_grad


def test_chains_come_back_to_the_buffer_in_training_only():
    buffer = ReplayBuffer(StandardNormal(2), 50)
    objective, x = MaximumLikelihood(steps=2, step=0.1, start=buffer), torch.randn(50, 2)
    before = buffer.chains.clone()
    with torch.no_grad():
        assert objective.eval()(Spy(), x).shape == (50,)
    assert torch.equal(buffer.chains, before)
    objective.train()(Spy(), x)
    assert (buffer.chains != before).any(1).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("start", ["data", ReplayBuffer(StandardNormal(2), 50)])
def test_chains_that_run_away_raise_and_say_what_to_lower(start):
    energy, before = Spy(), torch.randn(50, 2)
    energy.w.data.fill_(1e4)
    buffer = start if isinstance(start, ReplayBuffer) else None
    with pytest.raises(FloatingPointError, match=r"50 of 50 chains.*200 steps with step=0.5, temperature=1: lower step"):
        MaximumLikelihood(steps=200, step=0.5, start=start)(energy, before)
    assert energy.w.requires_grad and energy.training and energy.w.grad is None
    assert buffer is None or buffer.chains.isfinite().all()


def test_an_energy_that_is_nan_already_raises_the_same():
    energy = Spy()
    energy.w.data.fill_(math.nan)
    with pytest.raises(FloatingPointError, match="energy or score are not finite where chains begin; .*step=0.1"):
        MaximumLikelihood(steps=3, step=0.1)(energy, torch.randn(5, 2))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_energy_that_is_not_finite_at_the_data_raises_wherever_chains_began(value):
    energy, x = Spy(), torch.randn(5, 2)
    x[3] = 100.0

    def broken(x):
        return torch.where(x.norm(dim=1) > 50, value, energy(x))

    with pytest.raises(FloatingPointError, match="not finite at the data or where chains ended; .*step=0.1"):
        MaximumLikelihood(steps=3, step=0.1, start="noise")(broken, x)


def test_a_start_that_has_weights_keeps_them():
    start = StandardNormal(2)
    start.weight = nn.Parameter(torch.zeros(()))
    for begins in (start, ReplayBuffer(start, 50)):
        model = EBM(mlp_energy(2, (4,)), MaximumLikelihood(steps=1, step=0.1, start=begins), event_shape=(2,))
        (player,) = model.players()
        assert {id(p) for p in player.parameters()} == {id(p) for p in model.energy.parameters()}
        assert player.name == "energy" and player.loss(torch.zeros(3, 2)).shape == (3,)
    fit(model, torch.randn(50, 2), steps=2, batch_size=10, progress=False)
    assert start.weight == 0


def test_an_energy_of_the_wrong_shape_is_no_divergence():
    with pytest.raises(ValueError, match=r"energy must return shape \(n,\); got \(5, 1\)"):
        MaximumLikelihood(steps=3, step=0.1)(nn.Linear(2, 1), torch.randn(5, 2))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"steps": 0}, "steps must be a positive"),
        ({"step": -0.1}, "step must be positive; got -0.1"),
        ({"temperature": -1.0}, "temperature must not be negative"),
        ({"clip": 0.0}, "clip must be positive"),
        ({"l2": -1.0}, "l2 must not be negative"),
        ({"data_noise": math.nan}, "data_noise must not be negative"),
        ({"start": "uniform"}, "start must be 'data', 'noise'"),
        ({"start": torch.zeros(5, 2)}, "start must be 'data', 'noise'"),
    ],
)
def test_bad_settings_are_refused_before_any_training(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        MaximumLikelihood(**{"steps": 5, "step": 0.1} | settings)


def test_chains_of_other_events_than_the_datas_are_refused():
    with pytest.raises(ValueError, match=r"start must give chains of x's shape, \(5, 2\); got \(5, 3\)"):
        MaximumLikelihood(steps=1, step=0.1, start=StandardNormal(3))(Spy(), torch.randn(5, 2))


def test_fit_trains_it_to_the_density_at_the_chains_temperature():
    """CD-5 at T = ½ on N(1, ½²): e^{−E/T} is the data's law, up to ULA's bias; e^{−E} is not."""
    data, energy = 1 + 0.5 * normal(4096, 1), Quadratic()
    model = EBM(energy, MaximumLikelihood(steps=5, step=0.02, temperature=0.5), event_shape=(1,), box=[(-9.0, 11.0)])
    fit(model, data, steps=200, batch_size=256, lr=0.04, ema=0.98, progress=False)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    assert -model.log_prob(data, temperature=0.5).mean().item() == pytest.approx(entropy, abs=0.05)
    assert -model.log_prob(data).mean().item() > entropy + 0.08
