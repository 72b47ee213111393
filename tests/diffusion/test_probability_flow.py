"""Densities by the probability flow against closed forms: Gaussians and mixtures, whose scores are known."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.diffusion.probability_flow import flow_log_prob, score_and_trace
from gmcourse.diffusion.sde import VE, VP, GeometricVP, SubVP

SDES = [VP(), SubVP(), VE(0.01, 20.0), GeometricVP()]
each_sde = pytest.mark.parametrize("sde", SDES, ids=str)
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.6], [0.6, 0.8]], dtype=torch.float64)
MIXTURE = GaussianMixture([0.2, 0.8], [[-1.0, 0.5], [1.0, 0.0]], [0.3, 0.5])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


VALUES, AXES = torch.linalg.eigh(COVARIANCE)


def gaussian_at(sde, t):
    """Mean and variances along AXES of p_t for data N(MEAN, COVARIANCE); t ()."""
    alpha, sigma = sde.marginal(t)
    return alpha * MEAN, alpha**2 * VALUES + sigma**2


def gaussian_score(sde):
    def score(x, t):
        mean, variances = gaussian_at(sde, t[0])
        return (mean - x) @ AXES / variances @ AXES.T

    return score


def mixture_score(sde):
    return lambda x, t: MIXTURE.diffused(*map(float, sde.marginal(t[0]))).score(x)


def points(n=50, seed=0):
    return 1.5 * torch.randn(n, 2, generator=seeded(seed), dtype=torch.float64)


def gaussian_log_prob(sde, x, t_min):
    """By hand: each principal axis is stretched by the ratio of its widths, onto what the prior is."""
    (mean, variances), (last, wide) = (gaussian_at(sde, torch.tensor(t, dtype=torch.float64)) for t in (t_min, 1.0))
    stretch = (wide / variances).sqrt()
    noise = last + (x - mean) @ AXES * stretch @ AXES.T
    return sde.prior(2).log_prob(noise) + stretch.log().sum()


@each_sde
def test_the_density_of_a_gaussian_is_that_of_the_map_by_its_principal_axes(sde):
    x, t_min = points(), 1e-3
    found = flow_log_prob(sde, gaussian_score(sde), x, t_min=t_min, tolerance=1e-8).log_prob
    mean, variances = gaussian_at(sde, torch.tensor(t_min, dtype=torch.float64))
    truth = MultivariateNormal(mean, AXES @ torch.diag(variances) @ AXES.T).log_prob(x)
    assert torch.allclose(found, gaussian_log_prob(sde, x, t_min), atol=2e-6)
    assert torch.allclose(found, truth, atol=0.012 * float(truth.abs().max()))  # the prior is p_1, all but


@pytest.mark.parametrize("sde", [VP(0.1, 40.0), VE(0.005, 1000.0)], ids=str)
def test_the_density_of_a_mixture_is_the_true_one_and_evaluations_are_counted(sde):
    calls = []

    def score(x, t):
        calls.append(t[0])
        return mixture_score(sde)(x, t)

    x, start = MIXTURE.sample(20, generator=seeded()).double(), torch.tensor(1e-3, dtype=torch.float64)
    found = flow_log_prob(sde, score, x, t_min=1e-3, tolerance=1e-6)
    truth = MIXTURE.diffused(*map(float, sde.marginal(start))).log_prob(x)
    assert torch.allclose(found.log_prob, truth, atol=4e-3)  # the prior is p_1, all but
    assert found.evaluations == len(calls) < 1000


@pytest.mark.parametrize("event_shape", [(), (3,), (2, 2, 2)], ids=str)
def test_standard_normal_data_of_any_shape_keep_their_density(event_shape):
    x = torch.randn(4, *event_shape, generator=seeded())
    found = flow_log_prob(VP(), lambda x, t: -x, x).log_prob
    normal = -0.5 * (x.square() + math.log(2 * math.pi)).reshape(4, -1).sum(1)
    assert found.dtype == torch.float32 and torch.allclose(found, normal, atol=1e-4)


@pytest.mark.parametrize(("method", "order", "stages"), [("euler", 1, 1), ("heun", 2, 2), ("rk4", 4, 4)])
def test_fixed_steps_converge_at_their_order(method, order, stages):
    sde, x = VP(), points(20)
    truth = gaussian_log_prob(sde, x, 1e-3)

    def error(steps):
        found = flow_log_prob(sde, gaussian_score(sde), x, method=method, steps=steps)
        assert found.evaluations == stages * steps
        return float((found.log_prob - truth).abs().mean())

    assert math.log2(error(40) / error(80)) == pytest.approx(order, abs=0.35)


class Bent(nn.Module):
    """A score that is no gradient, with a Jacobian that is not symmetric."""

    def __init__(self, d):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d, 8), nn.Tanh(), nn.Linear(8, d)).double()

    def forward(self, x, t):
        return self.net(x) * t[:, None]


def bent(d=3):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Bent(d)


def test_the_exact_trace_is_that_of_the_jacobian():
    score, x, t = bent(), torch.randn(5, 3, generator=seeded(), dtype=torch.float64), torch.linspace(0.1, 1, 5).double()
    s, trace = score_and_trace(score, x, t)
    full = torch.autograd.functional.jacobian(lambda x: score(x, t), x)
    assert torch.allclose(trace, torch.stack([full[i, :, i].trace() for i in range(5)])) and not trace.requires_grad
    assert torch.equal(s, score(x, t))


def test_hutchinsons_trace_averages_to_the_exact_one_over_all_signs():
    score, x, t = bent(), torch.randn(5, 3, generator=seeded(), dtype=torch.float64), torch.ones(5).double()
    signs = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    traces = torch.stack([score_and_trace(score, x, t, v.expand(5, 3))[1] for v in signs])
    assert traces.std(0).min() > 0.01 and torch.allclose(traces.mean(0), score_and_trace(score, x, t)[1])


def test_hutchinsons_density_is_unbiased_and_the_same_for_the_same_seed():
    """log p is linear in the trace along a path that the signs do not change: with fixed steps."""
    sde, x = VP(), points(1).expand(4000, 2)
    how = {"method": "heun", "steps": 20}
    exact = flow_log_prob(sde, gaussian_score(sde), x[:1], **how).log_prob
    noisy = flow_log_prob(sde, gaussian_score(sde), x, trace="hutchinson", generator=seeded(), **how).log_prob
    again = flow_log_prob(sde, gaussian_score(sde), x, trace="hutchinson", generator=seeded(), **how).log_prob
    assert noisy.std() > 0.1 and torch.equal(noisy, again)
    assert float(noisy.mean()) == pytest.approx(float(exact), abs=4.5 * float(noisy.std()) / len(x) ** 0.5)


@pytest.mark.parametrize("trace", ["exact", "hutchinson"])
def test_gradients_reach_points_and_weights(trace):
    """Against finite differences."""
    score, x = bent(2), points(3).requires_grad_()

    def total(x):
        how = {"method": "heun", "steps": 8, "trace": trace}
        return flow_log_prob(VP(1.0, 3.0), score, x, generator=seeded(), **how).log_prob.sum()

    total(x).backward()
    weight, step = score.net[0].weight, 1e-6
    with torch.no_grad():
        for tensor, gradient in ((x, x.grad), (weight, weight.grad)):
            flat, values = tensor.reshape(-1), []
            for move in (step, -step):
                flat[1] += move
                values.append(total(x))
                flat[1] -= move
            slope = float(values[0] - values[1]) / (2 * step)
            assert slope == pytest.approx(float(gradient.reshape(-1)[1]), rel=1e-4)


def test_it_works_without_gradients_and_in_inference_mode():
    score, x, how = bent(2), points(3), {"method": "heun", "steps": 5}
    expected = flow_log_prob(VP(), score, x, **how).log_prob.detach()
    for without in (torch.no_grad, torch.inference_mode):
        with without():
            assert torch.equal(flow_log_prob(VP(), score, x, **how).log_prob, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trace": "full"}, "trace must be one of exact, hutchinson; got 'full'"),
        ({"method": "leap"}, "method must be one of"),
        ({"tolerance": 0.0}, "tolerance must be positive"),
        ({"method": "heun", "steps": 0}, "steps must be a positive whole number; got 0"),
        ({"t_min": 1.0}, "rise or fall"),
        ({"t_min": -0.1}, "t must lie in"),
        ({"score": lambda x, t: x[:, :1]}, "score must return the shape of x"),
        ({"score": lambda x, t: torch.zeros_like(x)}, "score must be differentiable"),
        ({"x": torch.zeros(3, 2, dtype=torch.int64)}, "x must be floats"),
    ],
)
def test_bad_input_is_named(change, message):
    given = {"sde": VP(), "score": lambda x, t: -x, "x": torch.zeros(3, 2), **change}
    with pytest.raises(ValueError, match=message):
        flow_log_prob(**given)
