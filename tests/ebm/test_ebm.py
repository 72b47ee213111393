"""Energies as models: exact log-densities on the line and in the plane, chains, and who is trained."""

import math
from functools import partial

import pytest
import torch
from problems.gaussian_energy import SIGMA, GaussianEnergy, double_well, well_moment
from torch import nn
from torch.distributions import MultivariateNormal, Normal, Uniform
from torch.nn.utils import parametrize

from gmcourse import Likelihood, Player, StandardNormal
from gmcourse.ebm import ebm
from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.ebm.contrastive import MaximumLikelihood
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy
from gmcourse.ebm.fingerprint import fingerprint, same
from gmcourse.ebm.product import ProductOfExperts
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.partition import log_z_grid
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


@pytest.fixture
def integrals(monkeypatch):
    """A list that grows by one with every integral that is worked out."""
    made = []
    monkeypatch.setattr(ebm, "log_z_grid", lambda *a: made.append(a) or log_z_grid(*a))
    return made


def tilt(a=1.0):
    """E(x) = a·x for points (n, 1), of PyTorch's modules alone."""
    layer = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(layer.weight, a)
    return nn.Sequential(layer, nn.Flatten(0))


def tilted(a):
    """log of the integral of e^{−ax} over [−1, 1]."""
    return math.log(2 * math.sinh(a) / a)


def doubled(energy):
    with torch.no_grad():
        energy[0].weight.mul_(2)


def doubled_by_data(energy):
    energy[0].weight.data *= 2


def loaded(energy):
    energy.load_state_dict({"0.weight": 2 * energy[0].weight.detach()})


def trained(energy):
    energy[0].weight.grad = -energy[0].weight.detach()
    torch.optim.SGD([energy[0].weight], lr=1.0).step()


def hooked(energy):
    energy.register_forward_hook(lambda module, args, out: 2 * out)


def replaced(energy):
    energy[0] = tilt(2.0)[0]


def parametrised(energy):
    class Twice(nn.Module):
        def forward(self, weight):
            return 2 * weight

    parametrize.register_parametrization(energy[0], "weight", Twice())


def patched(energy):
    energy.forward = lambda x: 2 * energy[0](x)[:, 0]


WAYS = [doubled, doubled_by_data, loaded, trained, hooked, replaced, parametrised, patched]


@pytest.mark.parametrize("change", WAYS)
def test_log_z_is_kept_until_the_energy_changes_by_whatever_way(change, integrals):
    energy = tilt()
    model = EBM(energy, CD, event_shape=(1,), box=[(-1.0, 1.0)])
    assert model.log_z() == model.log_z() == pytest.approx(tilted(1)) and len(integrals) == 1
    change(energy)
    assert model.log_z() == pytest.approx(tilted(2)) and len(integrals) == 2
    assert model.log_z(0.5) == pytest.approx(tilted(4))


def test_log_z_is_another_when_the_weights_of_a_product_or_a_setting_have_changed(integrals):
    product, bent = ProductOfExperts(tilt(), tilt(2.0)), nn.Sequential(*tilt(3.0)[:1], nn.LeakyReLU(1.0), nn.Flatten(0))
    for energy, change, before, after in (
        (product, lambda: setattr(product, "weights", (2.0, 3.0)), tilted(3), tilted(8)),
        (product, lambda: setattr(product, "energies", product.energies[::-1]), tilted(8), tilted(7)),
        (bent, lambda: setattr(bent[1], "negative_slope", 0.0), tilted(3), math.log(1 - math.expm1(-3) / 3)),
    ):
        integrals.clear()
        model = EBM(energy, CD, event_shape=(1,), box=[(-1.0, 1.0)])
        assert model.log_z() == model.log_z() == pytest.approx(before) and len(integrals) == 1
        change()
        assert model.log_z() == pytest.approx(after, abs=1e-6)


def test_log_z_is_that_of_the_grid_at_hand():
    model = EBM(tilt(), CD, event_shape=(1,), box=[(-1.0, 1.0)])
    before = model.log_z()
    model.grid = Grid([(0.0, 1.0)])
    assert before == pytest.approx(tilted(1)) and model.log_z() == pytest.approx(math.log(1 - math.exp(-1)))


def test_an_energy_that_may_see_more_than_its_weights_is_integrated_each_time():
    """A module of the user's with a number of its own, or one that looks at a list outside."""
    outside = [0.0]

    class Shifted(GaussianEnergy):
        shift = 0.0

        def forward(self, x):
            return super().forward(x) + self.shift + outside[0]

    energy = Shifted(1.0)
    model = EBM(energy, CD, event_shape=(), box=[(-9.0, 9.0)])
    before = model.log_z()
    energy.shift = 1.0
    assert model.log_z() == pytest.approx(before - 1)
    outside[0] = 1.0
    assert model.log_z() == pytest.approx(before - 2)


def test_log_z_survives_a_change_of_precision_or_device(integrals):
    energy = tilt().float()
    model = EBM(energy, CD, event_shape=(1,), box=[(-1.0, 1.0)])
    single = model.log_z()
    model.double()
    assert model.log_z() == pytest.approx(single, abs=1e-6) and len(integrals) == 2
    here, single, there = (fingerprint(e) for e in (energy, tilt().float(), tilt().to("meta")))
    assert same(here, here) and not same(single, here) and not same(there, here)


class Restless(nn.Module):
    """½‖x‖² that is another in training mode, where it moves a buffer, too."""

    def __init__(self):
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.ones(())), []
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.seen.append((self.training, self.w.requires_grad))
        if self.training:
            self.calls += 1
        return self.w * x.square().sum(1) * (1 if self.training else 0.5)


def test_what_a_model_says_is_said_in_evaluation_mode():
    model, x = EBM(Restless(), CD, event_shape=(1,), box=[(-9.0, 9.0)]), torch.randn(5, 1)
    assert torch.allclose(model.log_prob(x), Normal(0.0, 1.0).log_prob(x)[:, 0], atol=1e-5)
    assert model.log_z() == pytest.approx(0.5 * math.log(2 * math.pi), abs=1e-5)
    assert torch.allclose(model.values(x), x.square().sum(1) / 2) and torch.allclose(model.score(x), -x)
    assert model.energy.calls == 0 and model.energy.training
    model.loss(x)
    assert model.energy.calls > 0


def test_while_samples_are_drawn_the_net_evaluates_and_its_weights_are_held():
    energy = Restless()
    EBM(energy, CD, event_shape=(2,), sampler=partial(ULA, step=0.1), steps=3).sample(5)
    assert energy.seen and set(energy.seen) == {(False, False)} and energy.training and energy.w.requires_grad


def test_the_score_may_be_asked_in_inference_mode():
    model = EBM(mlp_energy(2, (8,)), CD, event_shape=(2,))
    with torch.inference_mode():
        x = torch.randn(5, 2)
        found = model.score(x)
    assert torch.allclose(found, model.score(x.clone()))


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

    def players(self, model):
        return [Player("energy", model.energy.parameters, model.loss), Player("critic", self.parameters, model.loss)]


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
