"""Flows as models: normalised densities, samples that follow them, context, noise and the reverse KL."""

import math
from functools import partial

import pytest
import torch

from gmcourse.fit import fit
from gmcourse.flows import Affine, Chain, Elementwise, Flow, Reverse, iaf, maf, neural_spline_flow, nice, real_nvp
from gmcourse.flows.builders_free import ffjord, planar_flow, radial_flow, residual_flow, sylvester_flow
from gmcourse.flows.dequantise import Dequantise
from gmcourse.flows.reverse import ReverseKL, reverse_kl
from gmcourse.model import Likelihood, StandardNormal

BUILDERS = {
    "nice": nice,
    "real_nvp": real_nvp,
    "maf": maf,
    "iaf": iaf,
    "spline_coupling": lambda *args, **kw: neural_spline_flow(*args, bins=8, **kw),
    "spline_autoregressive": lambda *args, **kw: neural_spline_flow(*args, kind="autoregressive", bins=8, **kw),
}
every_builder = pytest.mark.parametrize("name", BUILDERS)


def seeded(seed=1):
    return torch.Generator().manual_seed(seed)


def built(name, *args, **kw):
    torch.manual_seed(0)
    return BUILDERS[name](*args, layers=2, hidden=(16, 16), **kw).double()


def gaussian(mean, deviation):
    """N(mean, deviation²) in one coordinate, as a flow."""
    flow = Flow(StandardNormal(1), [Elementwise((1,), Affine(bound=1e6))])
    with torch.no_grad():
        flow.chain.layers[0].h[0], flow.chain.layers[0].h[1] = -mean / deviation, -math.log(deviation)
    return flow


@every_builder
def test_density_integrates_to_one(name):
    axis = torch.linspace(-9, 9, 301, dtype=torch.float64)
    with torch.no_grad():
        density = built(name).log_prob(torch.cartesian_prod(axis, axis)).exp()
    assert float(density.sum() * (axis[1] - axis[0]) ** 2) == pytest.approx(1, abs=1e-3)


@every_builder
def test_samples_come_with_the_density_that_log_prob_gives(name):
    flow = built(name, (3,))
    x, log_prob = flow.sample_and_log_prob(100)
    assert x.requires_grad and torch.allclose(flow.log_prob(x), log_prob, rtol=0, atol=1e-8)


@every_builder
def test_push_carries_noise_where_samples_come_from(name):
    flow = built(name, (1, 2, 2))
    eps = flow.noise(6, generator=torch.Generator().manual_seed(3))
    assert eps.shape == (6, 4) and flow.noise_blocks == {"z": 4}
    x = flow.sample(6, generator=torch.Generator().manual_seed(3))
    assert x.shape == (6, 1, 2, 2) and x.is_contiguous() and not x.requires_grad
    assert torch.equal(flow.push(eps), x)
    eps.requires_grad_()
    assert torch.autograd.grad(flow.push(eps).sum(), eps)[0].abs().min() > 0


@every_builder
def test_context_is_what_the_density_is_conditioned_on(name):
    flow = built(name, context=2)
    x, c = torch.randn(2, 5, 2, dtype=torch.float64).unbind()
    log_prob = flow.log_prob(x, c)
    assert (log_prob - flow.log_prob(x, c + 1)).abs().min() > 0
    assert torch.equal(flow.loss((x, c)), -log_prob)
    assert flow.sample(5, context=c).shape == (5, 2)
    assert flow.push(flow.noise(5), c).shape == (5, 2)
    y, found = flow.sample_and_log_prob(5, context=c)
    assert torch.allclose(flow.log_prob(y, c), found, rtol=0, atol=1e-8)


def test_a_context_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"context must be of shape \(5, 2\); got None"):
        built("maf", context=2).log_prob(torch.zeros(5, 2).double())
    with pytest.raises(ValueError, match=r"context must be of shape \(5, 2\); got \(4, 2\)"):
        built("maf", context=2).log_prob(torch.zeros(5, 2).double(), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"context must be None; got \(5, 1\)"):
        built("nice").sample(5, context=torch.zeros(5, 1))


def test_log_prob_of_a_scaled_normal_is_the_one_in_the_book():
    flow, x = gaussian(2.0, 0.5), torch.randn(20, 1)
    wanted = torch.distributions.Normal(2.0, 0.5).log_prob(x[:, 0])
    assert torch.allclose(flow.log_prob(x), wanted, atol=1e-5)


def test_mean_of_reverse_kl_is_the_divergence_less_the_log_of_z():
    torch.manual_seed(0)
    mean, deviation, log_z = 1.0, 2.0, 0.7  # energy of N(1, 2²) with its constant off
    target = torch.distributions.Normal(mean, deviation)
    flow = gaussian(0.3, 0.5)
    values = reverse_kl(flow, lambda x: -target.log_prob(x[:, 0]) - log_z, flow.base.sample(20_000)).detach()
    own = torch.distributions.Normal(0.3, 0.5)
    wanted = float(torch.distributions.kl_divergence(own, target)) - log_z
    assert values.shape == (20_000,)
    assert abs(float(values.mean()) - wanted) < 5 * float(values.std()) / 20_000**0.5


def test_gradient_of_reverse_kl_is_that_of_the_divergence():
    """Of flow and target in closed form: x = (z − t) e^{−s} is N(−t e^{−s}, e^{−2s})."""
    torch.manual_seed(0)
    flow, target = gaussian(0.3, 0.8), torch.distributions.Normal(1.0, 2.0)
    h = flow.chain.layers[0].h
    own = torch.distributions.Normal(-h[0] * (-h[1]).exp(), (-h[1]).exp())
    wanted = torch.autograd.grad(torch.distributions.kl_divergence(own, target).sum(), h)[0]
    losses = [reverse_kl(flow, lambda x: -target.log_prob(x[:, 0]), flow.base.sample(1000)).mean() for _ in range(40)]
    found = torch.stack([torch.autograd.grad(loss, h)[0] for loss in losses])
    assert ((found.mean(0) - wanted).abs() < 5 * found.std(0) / 40**0.5 + 1e-6).all()
    assert wanted.abs().min() > 0.05


def test_fit_learns_a_conditional_density():
    torch.manual_seed(0)
    c = torch.randn(2000, 1)
    x = torch.cat([2 * c, -c], 1) + 0.5 * torch.randn(2000, 2)
    flow = real_nvp(layers=2, hidden=(16,), context=1)
    fit(flow, (x, c), steps=200, lr=2e-2, progress=False)
    truth = torch.distributions.Normal(torch.cat([2 * c, -c], 1), 0.5).log_prob(x).sum(1).mean()
    with torch.no_grad():
        assert float(truth - flow.log_prob(x, c).mean()) < 0.2


def test_chain_adds_contributions_up_and_undoes_the_last_layer_first():
    first, second = Elementwise((2,), Affine()), Reverse(2)
    with torch.no_grad():
        first.h.normal_()
    x = torch.randn(5, 2)
    y, contribution = first(x)
    z, total = Chain(first, second)(x)
    assert torch.equal(z, second(y)[0]) and torch.equal(total, contribution)
    assert torch.allclose(Chain(first, second).inverse(z), x, atol=1e-6)


def test_samples_of_a_flow_that_only_has_a_bound_come_without_it():
    """Along its own samples it is above log p(x) in the mean, and the reverse KL too large."""
    flow = Flow(StandardNormal(2), [Dequantise((2,)), Reverse(2)])
    assert flow.sample(3).shape == (3, 2)
    wanted = "layers must be bijections for log p.* of a flow's own samples: use sample, then log_prob; got one that is none"
    with pytest.raises(ValueError, match=wanted):
        flow.sample_and_log_prob(3)
    with pytest.raises(ValueError, match=wanted):
        reverse_kl(flow, lambda x: x.square().sum(1), flow.base.sample(3))


@pytest.mark.parametrize("meaning", Likelihood)
def test_a_flow_promises_no_more_than_its_base(meaning):
    base = StandardNormal(2)
    base.likelihood = meaning
    assert Flow(base, [Reverse(2)]).likelihood is meaning
    bound = Likelihood.LOWER_BOUND if meaning is Likelihood.EXACT else meaning
    assert Flow(base, [Dequantise((2,))]).likelihood is bound


def test_one_layer_that_is_no_bijection_makes_the_likelihood_a_bound():
    assert built("nice").likelihood is Likelihood.EXACT
    assert Flow(StandardNormal(2), [Dequantise((2,)), Reverse(2)]).likelihood is Likelihood.LOWER_BOUND


@pytest.mark.parametrize("name", ["nice", "real_nvp", "spline_coupling"])
def test_couplings_want_two_coordinates(name):
    with pytest.raises(ValueError, match=r"event_shape must have at least two values for couplings; got \(1,\)"):
        built(name, (1,))


@pytest.mark.parametrize("build", [maf, iaf, partial(neural_spline_flow, kind="autoregressive"), radial_flow])
def test_single_numbers_are_data_too_or_are_refused_by_name(build):
    if build is radial_flow:
        with pytest.raises(ValueError, match=r"event_shape must be \(d,\): these layers act on vectors; got \(\)"):
            build(())
        return
    flow = build((), layers=2, hidden=(8,))
    x, log_prob = flow.sample_and_log_prob(5)
    assert x.shape == (5,) and torch.allclose(flow.log_prob(x), log_prob, atol=1e-5)
    assert torch.equal(flow.push(flow.noise(3, generator=seeded())), flow.sample(3, generator=seeded()))


@pytest.mark.parametrize("build", [residual_flow, ffjord])
def test_flows_that_need_an_axis_say_so(build):
    with pytest.raises(ValueError, match=r"event_shape must have at least one axis; got \(\)"):
        build(())


FREE = {
    "residual": residual_flow,
    "roulette": partial(residual_flow, log_det="roulette"),
    "ffjord": ffjord,
    "hutchinson": partial(ffjord, trace="hutchinson"),
    "adaptive": partial(ffjord, solver="dopri5"),
    "adjoint": partial(ffjord, solver="dopri5", adjoint=True),
    "planar": planar_flow,
    "nice": nice,
}


@pytest.mark.parametrize("name", FREE)
def test_an_empty_batch_stays_one(name):
    flow, x = FREE[name](), torch.zeros(0, 2)  # in training mode: no ActNorm may start from it
    for move in (flow.chain, flow.chain.invert):
        z, contribution = move(x)
        assert z.shape == (0, 2) and contribution.shape == (0,)
    assert all(p.isfinite().all() for p in flow.parameters())


AUTOREGRESSIVE = {"maf": maf, "iaf": iaf, "spline": partial(neural_spline_flow, kind="autoregressive")}


@pytest.mark.parametrize("name", AUTOREGRESSIVE)
def test_orders_turn_round_from_layer_to_layer(name):
    """The Jacobians are lower triangular, upper triangular, and so on; their product is full."""
    flow, x = AUTOREGRESSIVE[name]((3,), layers=4, hidden=(32,)).double(), torch.randn(3, dtype=torch.float64) / 2
    for k, layer in enumerate(flow.chain.layers):
        j = torch.autograd.functional.jacobian(lambda x, layer=layer: layer(x[None])[0][0], x)
        before = j if k % 2 == 0 else j.flip(0, 1)
        assert torch.equal(before, before.tril()) and (before.tril(-1)[torch.ones(3, 3).tril(-1).bool()] != 0).all()


def test_triangular_sylvester_layers_flip_the_dimensions_in_turn():
    flow, x = sylvester_flow((3,), layers=4, kind="triangular").double(), torch.randn(3, dtype=torch.float64) / 2
    for k, layer in enumerate(flow.chain.layers):
        j = torch.autograd.functional.jacobian(lambda x, layer=layer: layer(x[None])[0][0], x)
        after = j if k % 2 == 0 else j.flip(0, 1)
        assert torch.equal(after, after.triu()) and after.triu(1).abs().max() > 0


def test_an_unknown_kind_of_spline_flow_is_named():
    with pytest.raises(ValueError, match="kind must be 'coupling' or 'autoregressive'; got 'planar'"):
        neural_spline_flow(kind="planar")


def test_fit_by_reverse_kl_finds_a_gaussian_that_was_only_evaluated():
    torch.manual_seed(0)
    flow, energy = gaussian(0.0, 1.0), lambda x: (x[:, 0] - 1).square() / (2 * 0.5**2)
    fit(ReverseKL(flow, energy), torch.randn(2000, 1), steps=300, batch_size=500, lr=3e-2, progress=False)
    x = flow.sample(20_000)
    assert x.mean().item() == pytest.approx(1.0, abs=0.03) and x.std().item() == pytest.approx(0.5, abs=0.03)
    with pytest.raises(ValueError, match="flow must have no context; got context=2"):
        ReverseKL(real_nvp(context=2), energy)
