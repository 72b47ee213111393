"""Energies as models: exact log-densities on the line and in the plane, chains, and who is trained."""

import math
from functools import partial

import pytest
import torch
from problems.gaussian_energy import SIGMA, GaussianEnergy, double_well, well_moment
from torch import nn
from torch.distributions import MultivariateNormal, Normal, Uniform

from gmcourse import Likelihood, Player, StandardNormal
from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.ebm.contrastive import MaximumLikelihood
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy
from gmcourse.metrics.grid import Grid
from gmcourse.sampling import MALA, ULA

CD = MaximumLikelihood(steps=2, step=0.1)
PLANE = [(-9.0, 9.0)] * 2


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_in_the_plane_log_prob_of_a_gaussian_energy_is_the_normal_density(temperature):
    model = EBM(GaussianEnergy(torch.linalg.inv(SIGMA)), CD, event_shape=(2,), box=PLANE)
    x = normal(20, 2)
    wanted = MultivariateNormal(torch.zeros(2, dtype=torch.float64), temperature * SIGMA).log_prob(x)
    assert torch.allclose(model.log_prob(x, temperature=temperature), wanted, atol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,)])
def test_on_the_line_too_whether_points_are_numbers_or_vectors_of_one(shape):
    model = EBM(GaussianEnergy(4.0), CD, event_shape=shape, box=[(-6.0, 6.0)])
    x = normal(20)
    wanted = Normal(torch.zeros((), dtype=torch.float64), 0.5).log_prob(x)
    assert torch.allclose(model.log_prob(x.reshape(20, *shape)), wanted, atol=1e-9)
    assert model.likelihood is Likelihood.EXACT


def test_a_net_in_single_precision_is_normalised():
    torch.manual_seed(0)
    grid = Grid([(-2.0, 2.0)] * 2, 150)
    model = EBM(mlp_energy(2, (32,), features=8), CD, event_shape=(2,), box=grid)
    with torch.no_grad():
        mass = model.log_prob(grid.nodes.float()).double().exp().sum() * grid.cell
    assert mass.item() == pytest.approx(1, abs=1e-4)
    with_another_grid = EBM(model.energy, CD, event_shape=(2,), box=[(-2.0, 2.0)] * 2)
    assert with_another_grid.log_z() == pytest.approx(model.log_z(), abs=1e-3)


def test_without_a_box_log_prob_is_minus_the_energy():
    energy, x = GaussianEnergy(3.0), normal(5, 2)
    model = EBM(energy, CD, event_shape=(2,))
    assert model.likelihood is Likelihood.UNNORMALIZED
    assert torch.allclose(model.log_prob(x), -energy(x)) and torch.allclose(model.values(x), energy(x))
    with pytest.raises(ValueError, match="log_z needs an integral: give EBM a box"):
        model.log_z()


def doubled(energy):
    with torch.no_grad():
        energy.precision.mul_(2)


def doubled_by_data(energy):
    energy.precision.data *= 2


def loaded(energy):
    energy.load_state_dict({"precision": 2 * energy.precision.detach()})


def trained(energy):
    energy.precision.grad = -energy.precision.detach()
    torch.optim.SGD([energy.precision], lr=1.0).step()


@pytest.mark.parametrize("change", [doubled, doubled_by_data, loaded, trained])
def test_log_z_is_kept_until_the_weights_change_by_whatever_way(change):
    energy = GaussianEnergy(1.0)
    model = EBM(energy, CD, event_shape=(), box=[(-9.0, 9.0)])
    assert model.log_z() == pytest.approx(0.5 * math.log(2 * math.pi))
    calls = energy.calls
    assert model.log_z() == model.log_z() and energy.calls == calls
    change(energy)
    assert model.log_z() == pytest.approx(0.5 * math.log(math.pi)) and energy.calls > calls
    assert model.log_z(0.5) == pytest.approx(0.5 * math.log(math.pi / 2))


def test_a_function_without_weights_is_integrated_each_time():
    height = [0.0]
    model = EBM(lambda x: double_well(x) + height[0], CD, event_shape=(), box=[(-4.0, 4.0)])
    before = model.log_z()
    height[0] = 1.0
    assert model.log_z() == pytest.approx(before - 1)
    x = normal(5)
    assert torch.allclose(model.score(x), -(8 * x * (x.square() - 1) + 0.25))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_samples_follow_the_energy_at_the_samplers_temperature(temperature):
    """MALA on the double well, from starts that cover both wells, against moments by quadrature."""
    sampler = partial(MALA, step=0.2, temperature=temperature)
    start = Uniform(*torch.tensor([-1.5, 1.5], dtype=torch.float64))
    model = EBM(double_well, CD, event_shape=(), start=start, sampler=sampler, steps=400)
    assert model.temperature == temperature and model.nfe == 400
    x = model.sample(10_000, generator=seeded())
    for power in (1, 2, 4):
        assert abs(x.pow(power).mean() - well_moment(power, temperature)) < 4.5 * x.pow(power).std() / 100


def test_samples_are_those_of_the_generator_have_no_graph_and_the_energys_precision():
    model = EBM(mlp_energy(2, (8,)).double(), CD, event_shape=(2,), sampler=partial(ULA, step=0.1), steps=3)
    torch.manual_seed(0)
    first = model.sample(5, generator=seeded())
    state = torch.random.get_rng_state()
    assert torch.equal(first, model.sample(5, generator=seeded())) and torch.equal(state, torch.random.get_rng_state())
    assert first.dtype == torch.float64 and not first.requires_grad and first.shape == (5, 2)


def test_the_chains_of_a_buffer_may_be_where_sampling_begins():
    buffer = ReplayBuffer(StandardNormal(2), 100)
    buffer.chains.fill_(7.0)
    model = EBM(mlp_energy(2), CD, event_shape=(2,), start=buffer, sampler=partial(ULA, step=1e-8), steps=1)
    assert (model.sample(300) - 7).abs().max() < 0.01


def test_log_prob_is_differentiable_in_x_and_gives_the_score():
    model = EBM(mlp_energy(2, (8,)), CD, event_shape=(2,), box=[(-2.0, 2.0)] * 2)
    x = torch.randn(5, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(model.log_prob(x).sum(), x)
    assert torch.allclose(slope, model.score(x.detach()), atol=1e-6) and not model.score(x.detach()).requires_grad


class Learned(nn.Module):
    """An objective with a parameter of its own."""

    def __init__(self):
        super().__init__()
        self.log_z = nn.Parameter(torch.zeros(()))

    def forward(self, energy, x):
        return energy(x) + self.log_z


class TwoPlayers(Learned):
    """An objective that names its players."""

    def players(self, ebm):
        return [Player("energy", ebm.energy.parameters, ebm.loss), Player("critic", self.parameters, ebm.loss)]


def test_the_energy_plays_with_the_objectives_parameters_and_not_with_the_starts():
    start = nn.Module.__new__(type("Trained", (StandardNormal,), {}))
    start.__init__(2)
    start.weight = nn.Parameter(torch.ones(()))
    model = EBM(mlp_energy(2, (4,)), Learned(), event_shape=(2,), start=start)
    (player,) = model.players()
    assert player.name == "energy"
    assert {id(p) for p in player.parameters()} == {id(p) for p in (*model.energy.parameters(), model.objective.log_z)}
    assert player.loss(torch.zeros(3, 2)).shape == (3,)


def test_an_objective_that_names_players_is_heard():
    model = EBM(mlp_energy(2, (4,)), TwoPlayers(), event_shape=(2,))
    assert [p.name for p in model.players()] == ["energy", "critic"]


def test_what_is_sampled_and_known_is_shown():
    model = EBM(mlp_energy(2), CD, event_shape=(2,), sampler=partial(ULA, step=0.1, temperature=0.25), box=PLANE)
    assert "sampler=ULA, steps=100, temperature=0.25, likelihood=exact" in repr(model)
    assert "steps=2, step=0.1, temperature=1, noise=0.316, start=data" in repr(model)


@pytest.mark.parametrize(
    ("act", "complaint"),
    [
        (lambda: EBM(mlp_energy(2), CD, event_shape=(2,), start=StandardNormal(3)), r"start must have event shape \(2,\)"),
        (lambda: EBM(mlp_energy(2), CD, event_shape=(2,), box=[(-1, 1)]), "box must have one axis per number of x, 2"),
        (lambda: EBM(mlp_energy(2), CD, event_shape=(2,), box=[(1, -1)] * 2), "box must hold finite"),
        (lambda: EBM(mlp_energy(2), CD, event_shape=(2,), steps=0), "steps must be a positive"),
        (lambda: EBM(mlp_energy(2), CD, event_shape=(2,)).loss(torch.zeros(5, 3)), r"x must have shape \(n, 2\)"),
        (lambda: EBM(mlp_energy(2), CD, event_shape=(2,), box=PLANE).log_z(0.0), "temperature must be positive; got 0"),
        (lambda: EBM(mlp_energy(2), CD, event_shape=(2,)).log_prob(torch.zeros(5, 2), temperature=-1), "temperature must"),
        (lambda: EBM(nn.Linear(2, 1), CD, event_shape=(2,)).loss(torch.zeros(5, 2)), r"energy must return shape \(n,\)"),
        (lambda: EBM(nn.Linear(2, 1), CD, event_shape=(2,)).log_prob(torch.zeros(5, 2)), r"energy must return shape \(n,\)"),
    ],
)
def test_misuse_is_refused_by_name(act, complaint):
    with pytest.raises(ValueError, match=complaint):
        act()
