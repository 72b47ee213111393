"""What the explorers of energy-based models draw, against closed forms, quadrature and other code."""

import math

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from scipy.integrate import quad
from scipy.optimize import minimize
from torch import nn

from gmcourse.data import toy2d
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz.explorers import ebm_denoising as dsm
from gmcourse.viz.explorers.ebm_concepts import (
    CELL,
    CONCEPTS,
    EXTENT,
    RESOLUTION,
    carried,
    compose_concepts,
    composed,
    doubting,
    turned,
)
from gmcourse.viz.explorers.ebm_landscape import Scene, Snapshots, ebm_landscape, walked
from gmcourse.viz.plane import grid

CELLS = grid(EXTENT, RESOLUTION).double()
DATA = toy2d.get("gaussians8").sample(300, generator=torch.Generator().manual_seed(0))


# Concepts


def density(energy):
    """p at the cells, by a sum of its own."""
    weights = torch.exp(-energy(CELLS) + energy(CELLS).min())
    return weights / (weights.sum() * CELL)


@pytest.mark.parametrize("weight", [0.4, 1.0, 2.5])
def test_and_multiplies_densities_or_averages_them_and_not_divides(weight):
    a, b = doubting(CONCEPTS["ring"], 0.02, CELLS), doubting(CONCEPTS["nine spots"], 0.05, CELLS)
    p_a, p_b, sharp = density(a), density(b), density(b) ** weight
    wanted = {"and": p_a * sharp, "or": 0.5 * p_a + 0.5 * sharp / (sharp.sum() * CELL), "not": p_a / sharp}
    for how, p in wanted.items():
        assert torch.allclose(density(composed(how, a, b, weight, CELLS)), p / (p.sum() * CELL), rtol=1e-6), how
    assert torch.allclose(p_b, density(composed("and", lambda x: 0 * x[:, 0], b, 1.0, CELLS)))


def test_of_weight_zero_b_does_not_count():
    a, b = CONCEPTS["ring"], CONCEPTS["bar"]
    for how in ("and", "not"):
        assert torch.allclose(density(composed(how, a, b, 0.0, CELLS)), density(a))


@pytest.mark.parametrize("name", CONCEPTS)
def test_a_doubting_concept_is_itself_and_a_wide_bell_by_its_doubt(name):
    bell = torch.distributions.Normal(0.0, 2.0).log_prob(CELLS).sum(1).exp()
    for doubt in (0.0, 0.1):
        found = (-doubting(CONCEPTS[name], doubt, CELLS)(CELLS)).exp()
        assert torch.allclose(found, (1 - doubt) * density(CONCEPTS[name]) + doubt * bell)


@pytest.mark.parametrize("name", CONCEPTS)
def test_concepts_lie_within_the_window(name):
    p = density(CONCEPTS[name]).reshape(RESOLUTION, -1)
    rim = 1 - float(p[4:-4, 4:-4].sum()) * CELL
    assert rim < 1e-3


def test_a_concept_turns_to_the_left():
    right, up = torch.tensor([[2.0, 0.0], [0.0, 2.0]], dtype=torch.float64)[:, None]
    energy = turned(CONCEPTS["right half"], 90)
    assert float(energy(up)) == pytest.approx(float(CONCEPTS["right half"](right)))
    assert float(energy(up)) < float(energy(-up)) - 5


def test_carried_points_have_the_mean_and_the_spread_of_the_density():
    law = GaussianMixture([0.3, 0.7], [[-1.0, 0.5], [1.0, -0.2]], 0.4)
    p = law.log_prob(CELLS).exp().reshape(RESOLUTION, -1)
    x = carried(p, torch.rand(40_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    error = law.variance.sqrt() / 200
    assert ((x.mean(0) - law.mean).abs() < 4.5 * error).all()
    assert torch.allclose(x.var(0), law.variance, rtol=0.05)
    corner = carried(torch.eye(RESOLUTION, dtype=torch.float64)[:1].T.flip(0) @ torch.eye(RESOLUTION)[:1].double(),
                     torch.tensor([[0.25, 0.5]], dtype=torch.float64))  # all mass in the cell at the top on the left
    side = math.sqrt(CELL)
    assert torch.allclose(corner, torch.tensor([[EXTENT[0] + 0.25 * side, EXTENT[3] - 0.5 * side]], dtype=torch.float64))


def test_mass_at_the_edge_is_reported_when_nothing_holds_it_back():
    explorer = compose_concepts()

    def edge(**values):
        return explorer._compute(**(explorer.values | values))[-1]

    assert edge(how="and") < 0.02 and edge(how="not", weight=0.5) < 0.05
    assert edge(how="not", weight=3.0, a="disc", b="bar") > 0.3
    assert edge(how="not", weight=1.0, b="bar", doubt=0.0) > 0.99


# Denoising


@pytest.fixture(scope="module")
def learner():
    return dsm.Denoising()


@pytest.mark.parametrize(("sigma", "distance", "n"), [(0.3, 3.0, 100), (1.0, 2.0, 1000)])
def test_the_fit_minimises_the_denoising_loss_of_thesis_2_42(learner, sigma, distance, n):
    """The loss of the uncounted samples, differentiated by autograd and by nobody's hand."""
    draws = learner._draws[n]
    theta = learner.theta(sigma, distance, n)[0]

    def loss(theta, data, eps):
        noisy = (data + sigma * eps).requires_grad_()
        energy = 0.5 * (noisy / dsm.BASE).square() + dsm.bumps(noisy) @ theta
        (slope,) = torch.autograd.grad(energy.sum(), noisy, create_graph=True)
        return 0.5 * (-slope + eps / sigma).square().sum() + 0.5 * dsm.RIDGE * theta.square().sum()

    data, eps = distance * draws.side[0] + draws.within[0], draws.eps[0]

    def value(t):
        return loss(torch.from_numpy(t), data, eps).item()

    start = value(theta.numpy())
    best = minimize(
        value,
        theta.numpy(),
        method="L-BFGS-B",
        jac=lambda t: torch.func.grad(lambda v: _plain(v, data, eps, sigma))(torch.from_numpy(t)).numpy(),
    )
    assert start - best.fun < 2e-3 * start  # what counting in cells costs
    assert value(0 * theta.numpy()) - start > 100 * (start - best.fun)


def _plain(theta, data, eps, sigma):
    noisy = data + sigma * eps
    score = -noisy / dsm.BASE**2 - dsm.slopes(noisy) @ theta
    return 0.5 * (score + eps / sigma).square().sum() + 0.5 * dsm.RIDGE * theta.square().sum()


def test_with_much_data_it_learns_the_score_of_the_blurred_law_not_of_the_data(learner):
    sigma, p = 0.6, dsm.data_law(2.0)
    _, scores = learner.at(sigma, 2.0, 10_000)
    seen = (dsm.NODES.abs() < 1.5)
    blurred, sharp = p.diffused(1.0, sigma).score(dsm.NODES), p.score(dsm.NODES)
    mean, error = scores.mean(0), scores.std(0) / math.sqrt(dsm.DRAWS)
    near = (mean - blurred).abs()[seen]
    assert (near < 5 * error[seen] + 0.15).all()
    assert (mean - sharp).abs()[seen].max() > 1


def test_the_blur_alone_is_the_kl_divergence_by_scipys_quadrature():
    p = dsm.data_law(3.0)
    q = p.diffused(1.0, 0.5)

    def integrand(x):
        at = torch.tensor([x], dtype=torch.float64)
        return float(p.log_prob(at).exp() * (p.log_prob(at) - q.log_prob(at)))

    found = float(dsm.kl(p.log_prob(dsm.NODES), q.log_prob(dsm.NODES)))
    assert found == pytest.approx(quad(integrand, -4, 4, points=[-1.5, 0, 1.5])[0], abs=1e-6)


def test_samples_follow_the_mixture_and_are_counted_in_their_cells(learner):
    counts, sums = learner._draws[10_000].counted(3.0, 0.5)
    law = Mixture1D([0.7, 0.3], [-1.5, 1.5], 0.35).diffused(1.0, 0.5)
    assert (counts.sum(1) == 10_000).all()
    mean = (counts * dsm.NODES).sum(1) / 10_000
    assert abs(mean.mean() - law.mean) < 4.5 * math.sqrt(law.variance / 120_000)
    # E[x̃ ε] = σ
    assert float((sums * dsm.NODES).sum()) / 120_000 == pytest.approx(0.5, abs=0.02)


def test_both_too_little_and_too_much_noise_are_worse_than_some(learner):
    log_p = dsm.data_law(3.0).log_prob(dsm.NODES)
    little, some, much = (float(dsm.kl(log_p, learner.at(s, 3.0, 1000)[0]).median()) for s in (0.05, 0.3, 2.0))
    assert some < 0.3 * little and some < 0.3 * much


def test_the_shares_of_far_modes_scatter_where_those_of_a_filled_gap_do_not(learner):
    far, filled = (dsm.right_of_zero(learner.at(s, 5.0, 10_000)[0]).std() for s in (0.1, 1.0))
    assert far > 3 * filled


# The landscape of an energy in training


def bowl(width, centre=(0.0, 0.0)):
    return lambda x: 0.5 * (x - torch.tensor(centre)).square().sum(1) / width**2


def walk(**settings):
    return {"step": 0.1, "steps": 50, "temperature": 1.0, "seed": 0} | settings


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_likelihood_is_that_of_the_gaussian_which_the_energy_stands_for(temperature):
    scene = Scene(bowl(0.7), DATA, {"data": DATA}, (-7.0, 7.0, -7.0, 7.0), walk(temperature=temperature))
    law = torch.distributions.Normal(0.0, 0.7 * math.sqrt(temperature))
    assert scene.log_prob == pytest.approx(float(law.log_prob(DATA).sum(1).mean()), abs=1e-3)
    cell = (14 / 96) ** 2
    assert float(scene.log_density.exp().sum()) * cell == pytest.approx(1, abs=1e-5)
    assert scene.data == pytest.approx(float(bowl(0.7)(DATA).mean()), rel=1e-5)


def test_in_a_bowl_particles_move_as_the_linear_recursion_says():
    """x ↦ (1 − η/2w²) x + √(ηT) ω: mean and variance of every step in closed form."""
    eta, width, temperature, n = 0.2, 0.8, 1.5, 20_000
    path = walked(bowl(width), torch.full((n, 2), 2.0), step=eta, steps=12, temperature=temperature, seed=1)
    shrink, mean, variance = 1 - eta / (2 * width**2), 2.0, 0.0
    assert path.shape == (13, n, 2)
    for points in path:
        assert (points.mean(0) - mean).abs().max() < 4.5 * math.sqrt(variance / n) + 1e-6
        assert (points.var(0) - variance).abs().max() < 4.5 * variance * math.sqrt(2 / n) + 1e-6
        mean, variance = shrink * mean, shrink**2 * variance + eta * temperature


def test_particles_of_all_snapshots_share_their_noise():
    paths = [walked(bowl(w), DATA, step=0.1, steps=3, temperature=1.0, seed=0) for w in (0.5, 2.0)]
    noise = [path[1] - (1 - 0.05 / w**2) * path[0] for path, w in zip(paths, (0.5, 2.0), strict=True)]
    assert torch.allclose(*noise, atol=1e-5) and not torch.allclose(paths[0][1], paths[1][1], atol=0.01)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.energy = nn.Sequential(nn.Linear(2, 1), nn.Flatten(0))


def test_snapshots_are_copies_that_later_training_does_not_touch():
    model, snapshots = Model(), Snapshots(every=2)
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
    heights = {}
    for step in range(1, 7):
        with torch.no_grad():
            model.energy[0].weight.add_(1.0)
            heights[step] = model.energy(x)
        assert not snapshots(step, model)  # a true value would end the training
    assert list(snapshots.energies) == [2, 4, 6]
    for step, energy in snapshots.energies.items():
        assert torch.equal(energy(x), heights[step]) and not energy.training


def test_energies_from_which_particles_run_away_are_drawn_all_the_same():
    hole = {0: bowl(1.0), 1: lambda x: -1e3 * x.square().sum(1).square() * 1e-3}
    explorer = ebm_landscape(hole, DATA, step=0.5, steps=80)
    assert explorer.picture(snapshot=0) != explorer.picture(snapshot=1)


def test_the_picture_follows_training_steps_in_their_order():
    energies = {100: bowl(1.0), 10: bowl(3.0), 50: bowl(1.5)}
    explorer = ebm_landscape(energies, DATA, step=0.1, extent=(-4, 4, -4, 4))
    times = [explorer._compute(**(explorer.values | {"snapshot": k}))[3][0] for k in range(3)]
    assert times == [10, 50, 100]
    start, end = (explorer._compute(**(explorer.values | {"walked": k, "snapshot": 0}))[2] for k in (0, 60))
    assert np.abs(start).max() < 4 and not np.allclose(start, end)


@pytest.mark.parametrize(("make", "complaint"), [
    (lambda: ebm_landscape({}, DATA, step=0.1), "snapshots must hold at least two energies; got 0"),
    (lambda: ebm_landscape({0: bowl(1.0), 1: bowl(2.0)}, DATA[:, :1], step=0.1), r"data must have shape \(n, 2\)"),
    (lambda: ebm_landscape({0: bowl(1.0), 1: bowl(2.0)}, DATA, step=-0.1), "step must be positive; got -0.1"),
])  # fmt: skip
def test_what_makes_no_landscape_is_refused_by_name(make, complaint):
    with pytest.raises(ValueError, match=complaint):
        make()


@pytest.mark.parametrize(("make", "values"), [
    (lambda: ebm_landscape({0: bowl(2.0), 5: bowl(1.0)}, DATA, step=0.1), {"walked": 10}),
    (compose_concepts, {"how": "not", "weight": 0.5}),
])  # fmt: skip
def test_the_same_values_give_the_same_picture(make, values):
    check_same_picture(make, values)


def test_the_denoising_explorer_draws_all_its_values_the_same_each_time():
    explorer = dsm.dsm_sigma()
    pictures = {explorer.picture(sigma=s, distance=d, n=n) for s, d, n in ((0.05, 5.0, 100), (2.0, 1.0, 10_000))}
    assert len(pictures) == 2 and explorer.picture() == explorer.picture()
