"""Guidance with exact classifiers: Bayes' rule to rounding, and posteriors known in closed form as what samplers find."""

import math

import pytest
import torch
from scipy.stats import kstest
from torch import nn

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.diffusion.ddpm import DDPM
from gmcourse.diffusion.guidance import classifier_free, classifier_guided, classifier_guided_eps, slope
from gmcourse.diffusion.samplers import DDIM, Ancestral, run
from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
from gmcourse.diffusion.sde import VP

WEIGHTS, MEANS, SIGMA = [0.4, 0.35, 0.25], [[-1.0, 0.0], [1.0, 0.5], [0.0, -1.0]], 0.3
DATA, CLASS = GaussianMixture(WEIGHTS, MEANS, SIGMA), GaussianMixture(WEIGHTS[1:], MEANS[1:], SIGMA)
CHAIN = DiscreteDiffusion(vp_betas(100))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=99):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


def at(process, x, t):
    """α, σ as numbers, where all of x are at one time."""
    found = process.marginal(x, int(t[0])) if process is CHAIN else process.marginal(t[0].double())
    return [float(v) for v in found]


def score(data, process):
    return lambda x, t: data.diffused(*at(process, x, t)).score(x)


def noise(data, process):
    return lambda x, t: -at(process, x, t)[1] * data.diffused(*at(process, x, t)).score(x)


def log_p_class(process):
    """log p(y | x_t) of "one of the last two components", by the components' densities written out."""

    def found(x, t):
        alpha, sigma = at(process, x, t)
        squares = (x[:, None] - alpha * torch.tensor(MEANS).to(x)).square().sum(2)
        logits = torch.tensor(WEIGHTS).to(x).log() - squares / 2 / (alpha**2 * SIGMA**2 + sigma**2)
        return logits.log_softmax(1)[:, 1:].logsumexp(1)

    return found


@pytest.mark.parametrize("t", [0.001, 0.1, 0.5, 1.0])
def test_with_the_exact_classifier_the_guided_score_is_the_conditional_one(t):
    sde, x = VP(), 2 * normal(50, 2)
    times = torch.full((50,), t, dtype=torch.float64)
    guided = classifier_guided(score(DATA, sde), log_p_class(sde))
    torch.testing.assert_close(guided(x, times), score(CLASS, sde)(x, times), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("t", [0, 40, 99])
def test_noise_and_score_are_guided_alike(t, scale):
    x, times = normal(20, 2), torch.full((20,), t)
    guided = classifier_guided(score(DATA, CHAIN), log_p_class(CHAIN), scale)(x, times)
    found = classifier_guided_eps(noise(DATA, CHAIN), log_p_class(CHAIN), CHAIN, scale)(x, times)
    torch.testing.assert_close(found, -at(CHAIN, x, times)[1] * guided)


@pytest.mark.parametrize("scale", [0.0, 0.3, 1.0, 4.0])
def test_classifier_free_guidance_is_that_by_the_classifier_the_two_nets_imply(scale):
    """(1 − w) s(x) + w s(x | y) = s + w ∇ log p(y | x_t)."""
    sde, x, t = VP(), normal(30, 2), torch.full((30,), 0.3, dtype=torch.float64)
    free = classifier_free(score(CLASS, sde), score(DATA, sde), scale)
    torch.testing.assert_close(free(x, t), classifier_guided(score(DATA, sde), log_p_class(sde), scale)(x, t))


def test_at_the_two_ends_one_net_is_evaluated_and_not_the_other():
    def never(x, t):
        raise AssertionError("not needed")

    x, t = normal(3, 2), torch.zeros(3)
    assert torch.equal(classifier_free(lambda x, t: 2 * x, never, 1.0)(x, t), 2 * x)
    assert torch.equal(classifier_free(never, lambda x, t: 3 * x, 0.0)(x, t), 3 * x)


def test_guided_samples_have_the_law_of_the_class():
    """Weights .35 : .25 of its two modes, their places and widths; the third is gone. A sampler's loop has no gradients."""
    guided = classifier_guided_eps(noise(DATA, CHAIN), log_p_class(CHAIN), CHAIN)
    found = run(Ancestral(CHAIN, guided, variance="large").step, normal(4000, 2), CHAIN.times(), generator=seeded())
    distance = (found[:, None] - torch.tensor(MEANS)).square().sum(2)
    counts = torch.bincount(distance.argmin(1), minlength=3) / 4000
    assert counts[0] < 0.005
    assert abs(counts[1] - 7 / 12) < 4.5 * (35 / 144 / 4000) ** 0.5 + 0.01
    first = found[distance.argmin(1) == 1]
    assert ((first.mean(0) - torch.tensor(MEANS[1])).abs() < 0.03).all() and ((first.std(0) / SIGMA - 1).abs() < 0.08).all()


def measured(y, width):
    """log p(y | x_t) where x_0 ~ N(0, 1) was measured: y = x_0 + width · noise. x_0 given x_t is N(α x_t, σ²)."""

    def found(x, t):
        alpha, sigma = CHAIN.marginal(x, int(t[0]))
        return -0.5 * (y - alpha * x[:, 0]).square() / (sigma**2 + width**2)

    return found


def linear_flow(y, width, scale):
    """Mean and variance where DDIM takes N(0, 1) with that guidance: every step is x ↦ k x + c, slides (30)."""
    mean, variance, bars = 0.0, 1.0, [*CHAIN.alpha_bars.tolist(), 1.0]
    for t in range(99, -1, -1):
        now, then = bars[t], bars[t - 1] if t else 1.0
        alpha, sigma = math.sqrt(now), math.sqrt(1 - now)
        pull = scale * alpha / (1 - now + width**2)
        ratio, rest = math.sqrt(then) / alpha, math.sqrt(1 - then) - math.sqrt(then) * sigma / alpha
        k, c = ratio + rest * sigma * (1 + pull * alpha), -rest * sigma * pull * y
        mean, variance = k * mean + c, k**2 * variance
    return mean, variance


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_a_measurement_turns_the_prior_into_the_posterior_at_scale_one_only(scale):
    """p(x | y) = N(y/(1 + τ²), v), v = τ²/(1 + τ²). The flow's rates are linear in w, so its variance is v^w in the limit;
    p(x) p(y | x)^w = N(w y/(w + τ²), τ²/(w + τ²)) is wider, and does not go beyond y."""
    y, width = 0.8, 0.5
    eps = classifier_guided_eps(lambda x, t: CHAIN.marginal(x, t)[1] * x, measured(y, width), CHAIN, scale)
    found = run(DDIM(CHAIN, eps).step, normal(4000, 1), CHAIN.times())[:, 0]
    mean, variance = linear_flow(y, width, scale)
    assert kstest(found.numpy(), "norm", (mean, math.sqrt(variance))).pvalue > 1e-4
    tilted = scale * y / (scale + width**2), width**2 / (scale + width**2)
    assert variance == pytest.approx((width**2 / (1 + width**2)) ** scale, rel=0.25)
    if scale == 1:
        assert (mean, variance) == pytest.approx(tilted, abs=0.02)
    else:
        assert mean > y > tilted[0] and variance < 0.2 * tilted[1]


def test_every_row_may_have_a_label_of_its_own():
    y = torch.tensor([-1.0, 2.0], dtype=torch.float64)
    found = slope(lambda x, t: -0.5 * (y - x[:, 0]).square(), torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2))
    assert found.tolist() == [[-1.0], [2.0]]


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_gradients_are_found_where_they_are_switched_off_and_leave_none_behind(mode):
    net = nn.Linear(2, 1)
    with mode():
        x, t = torch.randn(3, 2), torch.ones(3)
        found = slope(lambda x, t: net(x)[:, 0] * t, x, t)
    assert not found.requires_grad and net.weight.grad is None and not x.requires_grad
    torch.testing.assert_close(found, net.weight.detach().expand(3, 2))


def test_a_ddpm_with_classes_is_guided_without_a_classifier():
    """Its net says −μ_y for the label y, and 0 where it is not told: guidance goes w times as far."""

    class Told(nn.Module):
        def forward(self, x, t, labels):
            return labels @ torch.tensor([[1.0, 0.0], [0.0, 1.0]]).to(x)

    model = DDPM(Told(), CHAIN, event_shape=(2,), classes=2)
    y = torch.tensor([0, 1, 1])
    guided = classifier_free(lambda x, t: model.eps(x, t, y), model.eps, 3.0)
    assert torch.equal(guided(torch.zeros(3, 2), torch.zeros(3).long()), 3.0 * torch.eye(2)[y])


X, T = torch.zeros(3, 2), torch.zeros(3)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: slope(lambda x, t: x, X, T), r"log_p_y must return shape \(n,\); got \(3, 2\)"),
        (lambda: slope(lambda x, t: x.sum(), X, T), r"shape \(n,\); got \(\)"),
        (lambda: slope(lambda x, t: t, X, T), "log_p_y must be differentiable in x"),
        (lambda: classifier_free(lambda x, t: x[:1], lambda x, t: x, 2.0)(X, T), "with_label must return the shape of x"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
