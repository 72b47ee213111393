"""Continuous layers against linear fields, whose flow is a matrix exponential, and against autograd."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gmcourse.flows.builders_free import ffjord
from gmcourse.flows.continuous import Continuous
from gmcourse.flows.flow import Flow
from gmcourse.flows.inverted import Inverted
from gmcourse.flows.layer import Chain
from gmcourse.flows.regularised import Regularised
from gmcourse.flows.velocity import Velocity
from gmcourse.model import StandardNormal

A = torch.tensor([[0.3, -1.2], [0.8, -0.5]], dtype=torch.float64)


class Linear(nn.Module):
    """f = A x."""

    def __init__(self, a=A):
        super().__init__()
        self.a = nn.Parameter(torch.as_tensor(a, dtype=torch.float64))

    def forward(self, x, t, context=None):
        return x @ self.a.mT


class Growth(nn.Module):
    """f = x²: from x > 0 it reaches infinity at t = 1/x."""

    def forward(self, x, t, context=None):
        return x.square()


def curved(**options):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        field = Velocity(2, (16, 16), context=options.pop("context", 0), input_scale=1.5)
    return Continuous(field, **options).double()


def points(n=6, dim=2):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("options", [{"solver": "rk4", "steps": 60}, {"solver": "dopri5", "tolerance": 1e-9}])
def test_a_linear_field_flows_by_the_matrix_exponential(options):
    layer, x = Continuous(Linear(), **options), points()
    z, contribution = layer(x)
    assert torch.allclose(z, x @ torch.linalg.matrix_exp(A).mT, atol=1e-7)
    assert torch.allclose(contribution, A.trace().expand(6), atol=1e-7)
    back, found = layer.invert(z)
    assert torch.allclose(back, x, atol=1e-7) and torch.allclose(found, contribution, atol=1e-7)


def test_log_density_of_a_linear_field_is_the_closed_form_gaussian():
    flow = Flow(StandardNormal(2), [Continuous(Linear(), solver="dopri5", tolerance=1e-9)]).double()
    back = torch.linalg.matrix_exp(-A)
    wanted = MultivariateNormal(torch.zeros(2).double(), back @ back.mT).log_prob(points())
    assert torch.allclose(flow.log_prob(points()), wanted, atol=1e-7)


def test_rk4_is_of_fourth_order_and_midpoint_of_second():
    x = points()
    with torch.no_grad():
        truth = torch.cat([part.flatten() for part in curved(steps=96)(x)])
        for solver, order in (("midpoint", 2), ("rk4", 4)):
            errors = []
            for steps in (6, 12):
                found = torch.cat([part.flatten() for part in curved(solver=solver, steps=steps)(x)])
                errors.append(float((found - truth).norm()))
            slopes = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
            assert slopes == pytest.approx([order], abs=0.5)


def test_contribution_is_the_autograd_log_determinant():
    layer, x = curved(steps=30), points()
    j = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), x).transpose(0, 1)
    assert torch.allclose(layer(x)[1], torch.linalg.slogdet(j).logabsdet, atol=1e-8)


def test_tangents_carried_along_are_the_autograd_jacobian():
    field, x, context = Velocity(3, (7, 5), context=2).double(), points(4, 3), points(4, 2)
    t = torch.tensor(0.3)
    f, found = field.linearise(x, t, context)
    wanted = torch.autograd.functional.jacobian(lambda x: field(x, t, context).sum(0), x).transpose(0, 1)
    assert torch.allclose(f, field(x, t, context), atol=1e-12) and torch.allclose(found, wanted, atol=1e-12)


def test_hutchinson_has_the_exact_trace_as_its_mean_and_one_vector_per_solve():
    layer = curved(steps=6)
    x = points(1).expand(2000, 2).contiguous()
    with torch.no_grad():
        exact = layer(x[:1])[1]
        layer.trace = "hutchinson"
        torch.manual_seed(0)
        z, found = layer(x)
    assert torch.allclose(z, z[:1].expand_as(z))
    assert float(found.mean() - exact) == pytest.approx(0, abs=4.5 * float(found.std()) / 2000**0.5)
    assert 0 < len(found.round(decimals=9).unique()) <= 4  # in 2-D there are four vectors of signs


def test_hutchinson_prices_the_jacobian_by_the_vector_of_the_row():
    """‖vᵀA‖² for the four vectors of signs; the mean over them is ‖A‖²_F."""
    layer = Continuous(Linear(), steps=3, trace="hutchinson")
    torch.manual_seed(0)
    found = layer.path(points(1).expand(400, 2).contiguous(), costs=True).jacobian
    signs = torch.cartesian_prod(torch.tensor([-1.0, 1.0]), torch.tensor([-1.0, 1.0])).double()
    prices = (signs @ A).square().sum(1)
    assert prices.mean() == pytest.approx(float(A.square().sum()))
    assert (found[:, None] - prices).abs().amin(1).max() < 1e-9 and len(found.detach().round(decimals=6).unique()) == 2


@pytest.mark.parametrize("options", [{"solver": "dopri5"}, {"steps": 4}])
def test_samples_with_hutchinsons_trace_depend_on_the_given_generator_only(options):
    torch.manual_seed(0)
    flow, found = ffjord(hidden=(16,), trace="hutchinson", **options), []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(flow.sample(50, generator=torch.Generator().manual_seed(5)))
    z = flow.base.sample(50, generator=torch.Generator().manual_seed(5))
    assert torch.equal(*found) and torch.allclose(found[0], flow.chain.invert(z)[0], atol=1e-4)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_adjoint_gradients_of_the_costs_are_those_of_backpropagation(trace):
    x, context, found = points(), points(6, 3), []
    for adjoint in (False, True):
        layer = curved(steps=20, adjoint=adjoint, trace=trace, context=3)
        start, given = x.clone().requires_grad_(), context.clone().requires_grad_()
        torch.manual_seed(0)
        path = layer.path(start, given, costs=True)
        loss = path.kinetic.sum() + 0.3 * path.jacobian.sum()
        found.append([loss.detach(), *torch.autograd.grad(loss, [start, given, *list(layer.parameters())[:-1]])])
    for direct, adjoint in zip(*found, strict=True):
        assert direct.abs().max() > 0 and torch.allclose(direct, adjoint, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_adjoint_gradients_are_those_of_backpropagation(trace):
    x, context, found = points(), points(6, 3), []
    for adjoint in (False, True):
        layer = curved(steps=20, adjoint=adjoint, trace=trace, context=3)
        start, given = x.clone().requires_grad_(), context.clone().requires_grad_()
        torch.manual_seed(0)
        z, contribution = layer(start, given)
        loss = z.square().sum() - contribution.sum()
        found.append(torch.autograd.grad(loss, [start, given, *layer.parameters()]))
    for direct, adjoint in zip(*found, strict=True):
        assert direct.abs().max() > 0 and torch.allclose(direct, adjoint, rtol=1e-4, atol=1e-5)


def test_evaluations_are_counted():
    layer = curved(steps=7)
    layer(points())
    assert layer.evaluations == 28 == ffjord(steps=7).nfe
    loose, tight = (curved(solver="dopri5", tolerance=t) for t in (1e-3, 1e-9))
    loose(points())
    tight(points())
    assert 7 <= loose.evaluations < tight.evaluations


def test_trajectories_pass_through_every_time_and_lead_back():
    layer, x = Continuous(Linear(), steps=50), points()
    times = [0.0, 0.13, 0.5, 1.0]
    way = layer.trajectories(x, times)
    wanted = torch.stack([x @ torch.linalg.matrix_exp(t * A).mT for t in times])
    assert torch.allclose(way, wanted, atol=1e-6)
    assert torch.allclose(layer.trajectories(way[-1], times[::-1]), way.flip(0), atol=1e-6)
    with pytest.raises(ValueError, match="times must rise or fall"):
        layer.trajectories(x, [0.0, 0.5, 0.2])


@pytest.mark.parametrize("reverse", [False, True])
def test_costs_of_a_linear_field_are_its_integrals(reverse):
    """Kinetic: ∫ ‖A e^{tA} x‖² dt by Simpson's rule; jacobian: ‖A‖²_F."""
    layer, x = Continuous(Linear(), steps=50), points()
    path = layer.path(x if not reverse else x @ torch.linalg.matrix_exp(A).mT, reverse=reverse, costs=True)
    times = torch.linspace(0, 1, 101, dtype=torch.float64)
    speeds = torch.stack([(x @ (A @ torch.linalg.matrix_exp(t * A)).mT).square().sum(1) for t in times])
    weights = torch.tensor([1.0, *[4.0, 2.0] * 49, 4.0, 1.0], dtype=torch.float64) / 300
    sign = -1 if reverse else 1
    assert torch.allclose(path.kinetic, sign * (weights @ speeds), atol=1e-6)
    assert torch.allclose(path.jacobian, sign * A.square().sum().expand(6), atol=1e-6)


def test_regularised_loss_adds_the_costs_and_shortens_the_paths():
    torch.manual_seed(0)
    flow = ffjord(hidden=(16,), steps=4)
    x = torch.randn(64, 2) * 0.5 + 1
    assert torch.allclose(Regularised(flow).loss(x), flow.loss(x), atol=1e-5)
    path = flow.chain.layers[0].path(x, costs=True)
    wanted = flow.loss(x) + 0.1 * path.kinetic + 0.2 * path.jacobian
    assert torch.allclose(Regularised(flow, kinetic=0.1, jacobian=0.2).loss(x), wanted, atol=1e-5)
    found = {}
    for kinetic in (0.0, 10.0):
        torch.manual_seed(0)
        flow = ffjord(hidden=(16,), steps=4)
        model, optimiser = Regularised(flow, kinetic=kinetic), torch.optim.Adam(flow.parameters(), 3e-2)
        for _ in range(10):
            optimiser.zero_grad()
            model.loss(x).mean().backward()
            optimiser.step()
        found[kinetic] = flow.chain.layers[0].path(x, costs=True).kinetic.mean().item()
    assert found[10.0] < 0.5 * found[0.0]


def test_regularised_passes_the_context_on_and_checks_it_as_the_flow_does():
    torch.manual_seed(0)
    flow, x, context = ffjord(hidden=(16,), steps=4, context=3).double(), points(), points(6, 3)
    priced = Regularised(flow, kinetic=0.1)
    wanted = flow.loss((x, context)) + 0.1 * flow.chain.layers[0].path(x, context, costs=True).kinetic
    assert torch.allclose(priced.loss((x, context)), wanted)
    assert not torch.allclose(priced.loss((x, context + 1)), wanted)
    with pytest.raises(ValueError, match=r"context must be of shape \(6, 3\); got None"):
        priced.loss(x)
    with pytest.raises(ValueError, match=r"context must be None; got \(6, 3\)"):
        Regularised(ffjord().double()).loss((x, context))


def test_regularised_prices_continuous_layers_within_chains():
    layers, x = [curved(steps=4), curved(steps=6)], points()
    flat, nested = (Flow(StandardNormal(2), row).double() for row in (layers, [layers[0], Chain(Chain(layers[1]))]))
    wanted = Regularised(flat, kinetic=1.0).loss(x)
    assert torch.allclose(Regularised(nested, kinetic=1.0).loss(x), wanted)
    assert (wanted - flat.loss(x)).min() > 0
    with pytest.raises(ValueError, match="flow must have its Continuous layers in a row.*; got one within Inverted"):
        Regularised(Flow(StandardNormal(2), [layers[0], Inverted(layers[1])]))


def test_a_context_moves_the_field_row_by_row():
    layer, x, context = curved(context=2, steps=5), points(), points(6, 2) * 2
    z, contribution = layer(x, context)
    assert torch.allclose(z[2:3], layer(x[2:3], context[2:3])[0])
    assert not torch.allclose(z, layer(x, context + 1)[0])
    assert torch.allclose(layer.inverse(z, context), x, atol=1e-3)


def test_images_flow_too():
    flow = ffjord((1, 4, 4), hidden=(8,), steps=2)
    assert flow.sample(3).shape == (3, 1, 4, 4) and flow.log_prob(torch.zeros(2, 1, 4, 4)).shape == (2,)
    assert flow.chain.layers[0].trace == "hutchinson"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "dopri5", "tolerance": 1e-2}, r"dopri5 with tolerance 0.01 failed at t = 0\.\d+: "),
        ({"solver": "dopri5", "max_steps": 3}, r"dopri5 with tolerance 1e-05 failed at t = .*: max_num_steps exceeded"),
        ({"solver": "rk4", "steps": 20}, "rk4 with 20 steps left the finite numbers between t = 0 and 1"),
    ],
)
def test_a_solver_that_fails_names_tolerance_and_time(options, message):
    with pytest.raises(RuntimeError, match=message):
        Continuous(Growth(), **options)(torch.full((2, 1), 3.0, dtype=torch.float64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"solver": "heun"}, "solver must be one of .*; got 'heun'"),
        ({"trace": "brute"}, "trace must be 'exact' or 'hutchinson'; got 'brute'"),
        ({"tolerance": 0.0}, "tolerance must be positive; got 0.0"),
        ({"steps": 0}, "steps must be a positive whole number; got 0"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        Continuous(Linear(), **options)


def test_regularised_refuses_what_it_cannot_price():
    with pytest.raises(ValueError, match="flow must have a Continuous layer; got none"):
        Regularised(Flow(StandardNormal(2), []))
    with pytest.raises(ValueError, match="kinetic and jacobian must not be negative; got -1 and 0.0"):
        Regularised(ffjord(), kinetic=-1)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_carry_leads_noise_to_the_data_of_the_inverse_and_evaluates_the_field_alone(trace):
    """The same points of a fixed-step solver, and of an adaptive one within its tolerance; no trace, no random numbers."""
    z, before = points(), torch.get_rng_state()
    for options, tolerance in (({"steps": 8}, 1e-14), ({"solver": "dopri5", "tolerance": 1e-7}, 1e-5)):
        layer = curved(trace=trace, **options)
        with torch.no_grad():
            assert torch.allclose(layer.carry(z), layer.inverse(z), rtol=0, atol=tolerance)
    assert torch.equal(torch.get_rng_state(), before)
    layer = curved(trace=trace, steps=8)
    layer.field.linearise = None  # the trace can't be asked for
    assert layer.carry(z).requires_grad and layer.evaluations == 32


def test_a_failed_solve_is_a_divergence_for_a_training_and_a_runtime_error_as_ever():
    for layer in (Continuous(Growth(), steps=8), Continuous(Growth(), solver="dopri5", max_steps=5)):
        for kind in (FloatingPointError, RuntimeError):
            with pytest.raises(kind, match="left the finite numbers|dopri5 .* failed at t = "):
                layer(torch.full((2, 2), 1e30))
