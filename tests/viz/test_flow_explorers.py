"""What the explorers of flows draw: densities of sub-flows, determinants and folds, paths that end where samples do."""

import math

import numpy as np
import pytest
import torch
from problems.explorers import check_same_picture
from torch import nn

from gmcourse.data import toy2d
from gmcourse.flows import Dequantise, Flow, Planar, Radial, ffjord, neural_spline_flow, real_nvp, residual_flow
from gmcourse.flows.continuous import Continuous
from gmcourse.model import StandardNormal
from gmcourse.viz.explorers.carried import hues, lattice, spread
from gmcourse.viz.explorers.dials import DIALS, log_density, rotation
from gmcourse.viz.explorers.flow_layers import Stages, between, flow_layers
from gmcourse.viz.explorers.flow_playground import flow_playground, verdict
from gmcourse.viz.explorers.flow_trajectories import PICTURES, Journey, cnf_trajectories
from gmcourse.viz.plane import grid, on_grid

WIDE = (-8.0, 8.0, -8.0, 8.0)
CELL = (16 / 160) ** 2
DATA = toy2d.get("two_moons").sample(200, generator=torch.Generator().manual_seed(3))


def untrained(build, seed=0, by=0.4, **options):
    """A flow that does something: all its weights moved a little at random."""
    torch.manual_seed(seed)
    flow = build(**options)
    with torch.no_grad():
        for parameter in flow.parameters():
            inputs = parameter[0].numel() if parameter.ndim else 1
            parameter.add_(by * torch.randn_like(parameter) / inputs**0.5)
    return flow


def total_variation(p, q):
    return 0.5 * float((p - q).abs().sum()) * CELL


NSF = untrained(neural_spline_flow, layers=3, bins=6)


def gaussian(covariance):
    return torch.distributions.MultivariateNormal(torch.zeros(2), covariance)


@pytest.mark.parametrize("matrix", [[[1.0, 0.0], [0.0, 1.0]], [[2.0, 0.5], [-0.3, 0.4]], [[0.5, 2.0], [1.0, 0.0]]])
def test_carried_mass_is_the_density_of_a_linear_map_of_noise(matrix):
    matrix = torch.tensor(matrix)
    points, mass = lattice(300)
    found = spread(points @ matrix.T, mass, WIDE, 160)
    wanted = on_grid(gaussian(matrix @ matrix.T).log_prob, WIDE, 160).exp()
    assert float(found.sum()) * CELL == pytest.approx(1, abs=1e-3)
    assert total_variation(found, wanted) < 0.01


def test_mass_outside_of_the_window_is_left_out():
    x = torch.tensor([[0.05, 0.05], [100.0, 0.0], [0.0, -1e9]])
    found = spread(x, torch.tensor([0.25, 0.5, 0.25]), WIDE, 160)
    assert float(found.sum()) * CELL == pytest.approx(0.25)


def test_opposite_directions_have_different_colours_and_the_centre_is_pale():
    east, west, centre = hues(torch.tensor([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]))[:, :3]
    assert np.abs(east - west).max() > 0.4
    assert np.ptp(centre) < 1e-6


@pytest.mark.parametrize("build", [neural_spline_flow, real_nvp])
def test_the_density_after_k_layers_is_that_of_noise_over_the_jacobian_of_the_way_so_far(build):
    flow = untrained(build, layers=3).double()
    z = torch.randn(7, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for k, part in enumerate(Stages(flow, side=2).flows):
        jacobian = torch.stack([torch.autograd.functional.jacobian(lambda v, f=part: f.push(v[None])[0], one) for one in z])
        wanted = gaussian(torch.eye(2)).log_prob(z) - jacobian.det().abs().log()
        assert torch.allclose(part.log_prob(part.push(z)), wanted, atol=1e-6), k


def test_stages_begin_with_noise_end_with_samples_and_every_density_integrates_to_one():
    stages = Stages(NSF, side=2)
    assert torch.equal(stages.points[0], stages.noise)
    assert torch.allclose(stages.points[-1], NSF.push(stages.noise))
    assert torch.equal(stages.flows[-1].log_prob(DATA), NSF.log_prob(DATA))
    for flow in stages.flows:
        assert float(on_grid(flow.log_prob, WIDE, 160).exp().sum()) * CELL == pytest.approx(1, abs=0.01)


def test_the_carried_density_runs_into_the_exact_one_at_whole_layers():
    stages = Stages(untrained(neural_spline_flow, layers=3, bins=6, by=0.1))
    for k, flow in enumerate(stages.flows):
        found = spread(stages.mesh[k].detach(), stages.mass, WIDE, 160)
        assert total_variation(found, on_grid(flow.log_prob, WIDE, 160).exp()) < 0.03
    assert torch.equal(between(stages.points, 1, 0.0), stages.points[1])
    assert torch.allclose(between(stages.points, 1, 0.25), 0.75 * stages.points[1] + 0.25 * stages.points[2], atol=1e-6)


def test_chains_in_the_chain_are_stepped_through_layer_by_layer():
    flow = residual_flow(layers=2, hidden=(8,))
    flow.log_prob(DATA)
    assert Stages(flow, side=2).names == ["Residual", "ActNorm", "Residual", "ActNorm"]


@pytest.mark.parametrize("flow", [
    neural_spline_flow(context=1), neural_spline_flow((3,)), Flow(StandardNormal(2), [Dequantise((2,))]),
])  # fmt: skip
def test_flows_that_are_no_bijections_of_the_plane_are_refused(flow):
    with pytest.raises(ValueError, match="flow must be a bijection of the plane"):
        flow_layers(flow, DATA)


def dial_of(kind, strength=0.8, sharpness=1.3, place=0.4, shear=0.6):
    return DIALS[kind](strength, sharpness, place, shear)


SOME = 2 * np.random.default_rng(0).standard_normal((2, 60))


@pytest.mark.parametrize("seed", range(4))
def test_the_planar_dial_is_the_librarys_layer(seed):
    torch.manual_seed(seed)
    layer = Planar(2).double()
    with torch.no_grad():
        layer.parts.values.mul_(2)
        w, u, b, product = (part[0].numpy() for part in layer.bent())
        z, contribution = layer(torch.from_numpy(SOME.T.copy()))
    k = np.hypot(*w)
    q = rotation(math.degrees(math.atan2(w[1], w[0])))
    dial = DIALS["planar"](float(product), k, -b / k, float(q[:, 1] @ u))
    assert np.allclose(q @ dial.forward(q.T @ SOME), z.T)
    assert np.allclose(np.log(dial.det(q.T @ SOME)), contribution)


@pytest.mark.parametrize("seed", range(4))
def test_the_radial_dial_is_the_librarys_layer(seed):
    torch.manual_seed(seed)
    layer = Radial(2).double()
    with torch.no_grad():
        layer.parts.values.mul_(2)
        centre, alpha, beta = (part[0].numpy() for part in layer.shape())
        z, contribution = layer(torch.from_numpy(SOME.T.copy()))
    q = rotation(math.degrees(math.atan2(centre[1], centre[0])))
    dial = DIALS["radial"](float(beta / alpha), float(1 / alpha), float(np.hypot(*centre)), 0.0)
    assert np.allclose(q @ dial.forward(q.T @ SOME), z.T)
    assert np.allclose(np.log(dial.det(q.T @ SOME)), contribution)


def test_the_sylvester_dial_is_the_formula_with_its_matrices():
    s, k, c, t = 0.7, 1.2, 0.4, -0.9
    q, r = rotation(25), np.array([[s / k, t], [0, s / k]])
    x = SOME + q @ r @ np.tanh(k * q.T @ SOME - k * c)
    assert np.allclose(q @ DIALS["Sylvester"](s, k, c, t).forward(q.T @ SOME), x)


@pytest.mark.parametrize("kind", DIALS)
@pytest.mark.parametrize("strength", [-1.6, -0.6, 2.0])
def test_determinants_are_those_of_finite_differences(kind, strength):
    dial, step = dial_of(kind, strength), 1e-5
    columns = [(dial.forward(SOME + e) - dial.forward(SOME - e)) / (2 * step) for e in step * np.eye(2)[:, :, None]]
    wanted = columns[0][0] * columns[1][1] - columns[0][1] * columns[1][0]
    assert np.allclose(dial.det(SOME), wanted, atol=1e-6)


@pytest.mark.parametrize("kind", DIALS)
@pytest.mark.parametrize("strength", [-0.9, 0.0, 3.0])
def test_above_minus_one_the_inverse_finds_back(kind, strength):
    dial = dial_of(kind, strength)
    assert np.allclose(dial.inverse(dial.forward(SOME)), SOME, atol=1e-4)


@pytest.mark.parametrize("kind", DIALS)
def test_the_determinant_is_positive_everywhere_if_and_only_if_the_strength_exceeds_minus_one(kind):
    cells = grid((-3, 3, -3, 3), 300).double().numpy().T
    assert dial_of(kind, -0.99).det(cells).min() > 0
    assert dial_of(kind, -1.1).det(cells).min() < 0
    at = np.array([[0.4], [0.4 if kind == "Sylvester" else 0.0]])
    assert dial_of(kind, -1.0).det(at) == pytest.approx(0)
    assert np.allclose(dial_of(kind, 1.5).parts(at), 2.5)
    assert "no inverse" in verdict(-1.0) and "no inverse" in verdict(-1.1) and "inverse" not in verdict(-0.95)


def test_below_minus_one_a_planar_layer_sends_different_noise_to_the_same_place():
    dial = dial_of("planar", -1.5, shear=0.0)
    a = np.linspace(-3, 3, 6001)
    x = dial.forward(np.stack((a, 0 * a)))[0]
    assert (np.diff(np.sign(x - x[np.searchsorted(a, 0.4)])) != 0).sum() >= 3


@pytest.mark.parametrize("kind", DIALS)
@pytest.mark.parametrize(("strength", "repeats"), [(-0.7, 1), (1.5, 1), (-0.4, 2), (0.8, 3)])
def test_the_density_after_repeated_layers_integrates_to_one_and_is_that_of_the_carried_mass(kind, strength, repeats):
    dial = dial_of(kind, strength)
    exact = torch.from_numpy(np.exp(log_density(dial, repeats, grid(WIDE, 160).double().numpy().T)).reshape(160, 160))
    points, mass = lattice(500)
    y = points.double().numpy().T
    for _ in range(repeats):
        y = dial.forward(y)
    assert float(exact.sum()) * CELL == pytest.approx(1, abs=0.03)
    assert total_variation(exact, spread(torch.from_numpy(y.T).float(), mass, WIDE, 160)) < 0.06


class Linear(nn.Module):
    """f = A x, whose paths are matrix exponentials."""

    def __init__(self):
        super().__init__()
        self.matrix = nn.Parameter(torch.tensor([[0.7, -1.5], [1.1, -0.4]]))

    def forward(self, x, t, context=None):
        return x @ self.matrix.T


@pytest.mark.parametrize("settings", [{"steps": 5}, {"steps": 40}, {"solver": "dopri5"}])
def test_in_a_linear_field_particles_and_density_follow_the_matrix_exponential(settings):
    layer = Continuous(Linear(), **settings)
    with torch.no_grad():
        journey = Journey(layer)
        densities = journey.density(WIDE)
    for k in (0, 7, 13, PICTURES):
        way = torch.matrix_exp(layer.field.matrix.detach() * (journey.times[k] - 1))
        assert torch.allclose(journey.particles[k], journey.noise @ way.T, atol=3e-3)
        wanted = on_grid(gaussian(way @ way.T).log_prob, WIDE, 96).exp()
        assert 0.5 * float((densities[k] - wanted).abs().sum()) * (16 / 96) ** 2 < 0.02


@pytest.mark.parametrize("settings", [{"steps": 3}, {"solver": "euler", "steps": 7}, {"solver": "bosh3", "tolerance": 1e-4}])
def test_paths_end_where_the_flow_samples_and_evaluations_are_counted(settings):
    flow = untrained(ffjord, hidden=(16, 16), by=0.2, **settings)
    with torch.no_grad():
        journey = Journey(flow.chain.layers[0])
        ends = flow.push(journey.noise)
    assert torch.allclose(journey.particles[0], journey.noise)
    assert torch.allclose(journey.particles[-1], ends, atol=1e-5 if "steps" in settings else 5e-3)
    assert journey.calls[0] == 0 and journey.calls == sorted(journey.calls)
    if flow.nfe:
        assert journey.calls[-1] == flow.nfe
    assert not flow.chain.layers[0].field._forward_hooks


def test_at_the_end_the_density_is_the_flows_own():
    flow = untrained(ffjord, hidden=(16, 16), by=0.2, steps=20)
    with torch.no_grad():
        found = Journey(flow.chain.layers[0]).density(WIDE)[-1]
        wanted = on_grid(flow.log_prob, WIDE, 96).exp()
    assert 0.5 * float((found - wanted).abs().sum()) * (16 / 96) ** 2 < 0.02


@pytest.mark.parametrize("flow", [NSF, ffjord(context=1), ffjord((3,)), Flow(StandardNormal(2), [])])
def test_only_continuous_flows_of_the_plane_have_trajectories(flow):
    with pytest.raises(ValueError, match="flow must be one Continuous layer on the plane"):
        cnf_trajectories(flow)


@pytest.mark.parametrize(("make", "values"), [
    (lambda: flow_layers(NSF, DATA), {"layers": 1.3}),
    (flow_playground, {"kind": "radial", "strength": -1.5}),
    (lambda: cnf_trajectories(untrained(ffjord, hidden=(8,), by=0.2)), {"passed": 0.36}),
])  # fmt: skip
def test_the_same_values_give_the_same_picture(make, values):
    check_same_picture(make, values)
