"""The true denoising law against mixtures in closed form, the thesis' own integral, Bayes' rule, draws and expansions."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.integrate import quad

from gmcourse.data import toy2d
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.diffusion.denoising_posterior import DenoisingLaw, average_gap, true_denoising
from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
from gmcourse.diffusion.sde import VE, VP, SubVP

LINE = Mixture1D()
PLANE = GaussianMixture([0.5, 0.3, 0.2], [[-1.0, -0.5], [1.0, 0.5], [0.2, 1.0]], [0.2, 0.15, 0.25])
FOUR = DiscreteDiffusion(vp_betas(4))
STEPS = [(FOUR, 3, -1), (FOUR, 0, -1), (FOUR, 2, 1), (FOUR, 3, 0), (DiscreteDiffusion(vp_betas(50)), 30, 28)]
STEPS += [(VP(), 0.3, 0.0), (VP(), 0.7, 0.2), (SubVP(), 0.6, 0.4), (VE(0.05, 8.0), 0.8, 0.5)]


def level(process, t):
    """(α, σ) from the process' own tables and formulas."""
    if isinstance(process, DiscreteDiffusion):
        bar = float(process.alpha_bars[t]) if t >= 0 else 1.0
        return math.sqrt(bar), math.sqrt(1 - bar)
    return tuple(float(v) for v in process.marginal(torch.tensor(t, dtype=torch.float64)))


def mixture(p0, now, then, x):
    """Weights (k,), means (k, d), variances (k,) of q(x_s | x_t = x): conjugate Gaussians, component by component."""
    (alpha, sigma), (alpha_s, sigma_s) = now, then
    means, widths = p0.means.numpy().reshape(len(p0.weights), -1), p0.sigmas.numpy() ** 2
    a = alpha / alpha_s
    b = sigma**2 - a**2 * sigma_s**2
    before, prior = alpha_s * means, alpha_s**2 * widths + sigma_s**2
    precision = 1 / prior + a**2 / b
    logs = [stats.multivariate_normal(a * m, a**2 * v + b).logpdf(x) if len(m) == 1
            else stats.multivariate_normal(a * m, (a**2 * v + b) * np.eye(len(m))).logpdf(x)
            for m, v in zip(before, prior, strict=True)]  # fmt: skip
    weights = p0.weights.numpy() * np.exp(np.array(logs) - max(logs))
    return weights / weights.sum(), (before / prior[:, None] + a * x / b) / precision[:, None], 1 / precision


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("process", "t", "s"), STEPS)
@pytest.mark.parametrize("p0", [LINE, PLANE], ids=["line", "plane"])
def test_a_mixtures_law_is_the_mixture_of_conjugate_gaussians(p0, process, t, s):
    now, then = level(process, t), level(process, s)
    x = p0.diffused(*now).sample((4,), generator=seeded()).double()
    law = true_denoising(p0, process, t, s, x)
    assert law.batch_shape == (4,) and law.event_shape == p0.event_shape and float(law.error.max()) < 1e-8
    gaussian = law.gaussian()
    for i, xi in enumerate(x.reshape(4, -1).numpy()):
        w, means, variances = mixture(p0, now, then, xi)
        d = means.shape[1]
        mean = w @ means
        covariance = (w * variances).sum() * np.eye(d) + (w[:, None] * (means - mean)).T @ (means - mean)
        assert np.allclose(law.mean[i].reshape(-1), mean, atol=1e-8)
        assert np.allclose(law.variance[i].reshape(-1), covariance.diagonal(), rtol=1e-7)
        wide = gaussian.variance[i].reshape(1, 1) if d == 1 else gaussian.covariance_matrix[i]
        assert np.allclose(wide, covariance, rtol=1e-6, atol=1e-9)
        y = mean + np.sqrt(covariance.trace()) * np.linspace(-2, 2, 7)[:, None] * np.ones(d)
        truth = sum(wk * stats.norm(m, math.sqrt(v)).pdf(y).prod(1) for wk, m, v in zip(w, means, variances, strict=True))
        found = law.log_prob(torch.from_numpy(y).reshape(7, 1, *p0.event_shape))[:, i]
        assert np.allclose(found.exp(), truth, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize(("t", "s"), [(3, 2), (2, 1), (1, 0)])
def test_it_is_the_integral_of_the_thesis(t, s):
    """∫ q(x_s | x_t, x_0) q(x_0 | x_t) dx_0 with the chain's own posterior (2.51), by adaptive quadrature."""
    x, y = 0.4, torch.tensor([-0.7, 0.1, 1.2], dtype=torch.float64)
    alpha, sigma = level(FOUR, t)

    def joint(x0):
        return math.exp(LINE.log_prob(torch.tensor(x0, dtype=torch.float64))) * stats.norm(alpha * x0, sigma).pdf(x)

    def bridged(x0, y):
        mean, variance = FOUR.posterior(*(torch.tensor([v], dtype=torch.float64) for v in (x0, x)), t)
        return joint(x0) * stats.norm(float(mean), math.sqrt(variance)).pdf(y)

    points = {"points": [-1.0, 0.2, 1.5], "limit": 200, "epsabs": 1e-11}
    evidence = quad(joint, -3, 3.5, **points)[0]
    found = true_denoising(LINE, FOUR, t, s, torch.tensor(x, dtype=torch.float64)).log_prob(y).exp()
    for value, at in zip(found, y.tolist(), strict=True):
        assert float(value) == pytest.approx(quad(bridged, -3, 3.5, args=(at,), **points)[0] / evidence, rel=1e-6)


@pytest.mark.parametrize(("t", "s"), [(3, 2), (3, -1), (1, 0), (0, -1)])
def test_averaged_over_x_t_it_is_the_law_of_x_s(t, s):
    now, then = LINE.diffused(*level(FOUR, t)), LINE.diffused(*level(FOUR, s))
    x = torch.linspace(-8, 8, 3201, dtype=torch.float64)
    y = torch.tensor([-1.1, -0.3, 0.2, 0.8, 1.5], dtype=torch.float64)
    law = true_denoising(LINE, FOUR, t, s, x)
    joint = law.log_prob(y[:, None]).exp() * now.log_prob(x).exp()
    assert torch.allclose(torch.trapezoid(joint, x), then.log_prob(y).exp(), rtol=1e-8)
    assert torch.allclose(law.log_evidence(), now.log_prob(x), atol=1e-8)


@pytest.mark.parametrize(("t", "s"), [(3, -1), (0, -1), (2, 1), (1, 0)])
def test_draws_on_the_line_follow_the_law(t, s):
    x = torch.tensor([-0.6, 0.5], dtype=torch.float64)
    y = true_denoising(LINE, FOUR, t, s, x).sample(20_000, generator=seeded())
    assert y.shape == (20_000, 2)
    for i in range(2):
        w, means, variances = mixture(LINE, level(FOUR, t), level(FOUR, s), x[i : i + 1].numpy())
        parts = [stats.norm(m, math.sqrt(v)) for m, v in zip(means[:, 0], variances, strict=True)]
        cdf = lambda v, w=w, parts=parts: sum(wk * p.cdf(v) for wk, p in zip(w, parts, strict=True))  # noqa: E731
        assert stats.kstest(y[:, i].numpy(), cdf).pvalue > 1e-3


@pytest.mark.parametrize("s", [-1, 0])
def test_draws_in_the_plane_follow_the_law(s):
    x, n = torch.tensor([[0.1, 0.3], [-0.5, 0.2]], dtype=torch.float64), 20_000
    y = true_denoising(PLANE, FOUR, 1, s, x).sample(n, generator=seeded()).numpy()
    for i in range(2):
        w, means, variances = mixture(PLANE, level(FOUR, 1), level(FOUR, s), x[i].numpy())
        for direction in np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8], [0.8, -0.6]]):
            parts = [stats.norm(m @ direction, math.sqrt(v)) for m, v in zip(means, variances, strict=True)]
            cdf = lambda v, w=w, parts=parts: sum(wk * p.cdf(v) for wk, p in zip(w, parts, strict=True))  # noqa: E731
            assert stats.kstest(y[:, i] @ direction, cdf).pvalue > 1e-3


@pytest.mark.parametrize(("t", "s"), [(3, -1), (1, -1), (1, 0)])
def test_the_gap_is_the_kl_to_the_gaussian_of_the_same_moments(t, s):
    x = np.array([0.5])
    w, means, variances = mixture(LINE, level(FOUR, t), level(FOUR, s), x)
    parts = [stats.norm(m, math.sqrt(v)) for m, v in zip(means[:, 0], variances, strict=True)]
    mean = w @ means[:, 0]
    near = stats.norm(mean, math.sqrt(w @ (variances + (means[:, 0] - mean) ** 2)))

    def integrand(y):
        q = sum(wk * p.pdf(y) for wk, p in zip(w, parts, strict=True))
        return q * (math.log(q) - near.logpdf(y)) if q > 0 else 0.0

    truth = quad(integrand, -6, 6, points=[-1.0, 0.2, 1.5], limit=400)[0]
    assert float(true_denoising(LINE, FOUR, t, s, torch.from_numpy(x)).gaussian_gap()) == pytest.approx(truth, abs=1e-6)


def test_the_gap_in_the_plane_is_the_mean_log_ratio_of_draws():
    x, n = torch.tensor([0.1, 0.3], dtype=torch.float64), 20_000
    law = true_denoising(PLANE, FOUR, 1, 0, x)
    y = law.sample(n, generator=seeded())
    ratio = law.log_prob(y) - law.gaussian().log_prob(y)
    assert float(law.gaussian_gap()) == pytest.approx(float(ratio.mean()), abs=4.5 * float(ratio.std()) / math.sqrt(n))
    assert float(law.gaussian_gap()) > 0.01


@pytest.mark.parametrize("p0", [Mixture1D([1.0], [0.4], 0.7), GaussianMixture([1.0], [[0.3, -0.2]], 0.6)])
def test_a_step_back_to_gaussian_data_is_gaussian_however_large(p0):
    x = torch.zeros(3, *p0.event_shape, dtype=torch.float64)
    for t, s in ((3, -1), (2, 0), (0, -1)):
        assert torch.allclose(true_denoising(p0, FOUR, t, s, x).gaussian_gap(), torch.zeros(3).double(), atol=1e-9)


def test_a_small_steps_gap_is_its_variance_cubed_times_the_skew_of_the_law():
    """KL → b³ ℓ'''²/12 with ℓ = log q(x_t), by autograd: a Gaussian of variance b tilted by ℓ has skew ℓ''' b^{3/2}."""
    x, ratios = torch.tensor([-0.5, 0.8, 1.1], dtype=torch.float64, requires_grad=True), []
    now = level(VP(), 0.25)
    value = LINE.diffused(*now).log_prob(x).sum()
    for _ in range(3):
        (value,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    for h in (4e-3, 2e-3, 1e-3):
        alpha, sigma = level(VP(), 0.25 - h)
        b = now[1] ** 2 - (now[0] / alpha) ** 2 * sigma**2
        gap = true_denoising(LINE, VP(), 0.25, 0.25 - h, x.detach()).gaussian_gap()
        ratios.append(gap / (b**3 * value.detach().square() / 12))
    off = [float((r - 1).abs().max()) for r in ratios]
    assert off[0] > 1.8 * off[1] > 3.2 * off[2] and off[2] < 0.05


def test_steps_four_times_as_many_lose_a_sixteenth_of_the_joint_law():
    """T steps of b ∝ 1/T, each with a gap of order b³: the sum over the chain falls as T^−2."""
    totals = []
    for steps in (200, 800):
        chain = DiscreteDiffusion(vp_betas(steps))
        chosen = range(3 * steps // 20, steps // 2, steps // 20)  # each stands for as many times as lie between
        totals.append(sum(average_gap(LINE, chain, t, t - 1, nodes=80, points=600) for t in chosen) * steps / 20)
    assert math.log(totals[0] / totals[1]) / math.log(4) == pytest.approx(2, abs=0.1)


def test_the_average_gap_is_that_of_draws():
    x = LINE.diffused(*level(FOUR, 0)).sample(2000, generator=seeded())
    gaps = true_denoising(LINE, FOUR, 0, -1, x).gaussian_gap()
    assert average_gap(LINE, FOUR, 0, -1) == pytest.approx(float(gaps.mean()), abs=4.5 * float(gaps.std()) / math.sqrt(2000))


def test_humps_grow_with_the_step():
    """From the same x_t on the way to the data: one hump, and in the end all three."""
    chain, x = DiscreteDiffusion(vp_betas(50)), torch.tensor(0.3)
    counts = [int(true_denoising(LINE, chain, 25, s, x).modes()) for s in (24, 20, 10, 4, -1)]
    assert counts[0] == 1 and counts[-1] == 3 and counts == sorted(counts)
    assert int(true_denoising(LINE, chain, 25, -1, x).modes(least=0.99)) == 1


def test_one_step_from_noise_has_to_draw_the_data():
    """α_T is 0.0066, and x_t tells next to nothing: KL(p_0 ‖ q) < 1e-3, whatever x_t."""
    x0 = LINE.sample(2000, generator=seeded()).double()
    law = true_denoising(LINE, DiscreteDiffusion(vp_betas(1)), 0, -1, torch.tensor([-1.5, 0.0, 1.5], dtype=torch.float64))
    assert (law.log_prob(x0[:, None]) - LINE.log_prob(x0)[:, None]).abs().max() < 0.05
    assert torch.allclose(law.mean, LINE.mean.expand(3), atol=0.02) and law.modes().tolist() == [3, 3, 3]


def test_results_have_the_dtype_and_the_batch_of_x_and_a_seed_settles_the_draws():
    x = torch.zeros(2, 3, 2)
    law = true_denoising(PLANE, FOUR, 2, 0, x, points=100)
    draws = [law.sample((5,), generator=seeded(seed)) for seed in (0, 0, 1)]
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])
    assert draws[0].shape == (5, 2, 3, 2) and law.sample().shape == x.shape == law.mean.shape == law.variance.shape
    assert law.log_prob(draws[0]).shape == (5, 2, 3) and law.log_prob(torch.zeros(7, 1, 1, 2)).shape == (7, 2, 3)
    assert law.gaussian_gap().shape == law.error.shape == law.log_evidence().shape == (2, 3)
    assert {v.dtype for v in (draws[0], law.mean, law.log_prob(draws[0]), law.gaussian_gap())} == {torch.float32}
    one = true_denoising(LINE, FOUR, 2, 0, torch.tensor(0.1))
    assert one.sample().shape == one.mean.shape == one.modes().shape == ()


def test_quadrature_owns_up_to_what_it_misses():
    """Edges within cells cost the midpoint rule an order: the error that is told is that of p0's sum over the cells."""
    board, smooth, x = toy2d.get("checkerboard"), toy2d.get("gaussians8"), torch.zeros(1, 2)
    told = float(true_denoising(board, FOUR, 1, -1, x).error)
    assert 1e-4 < told < 0.01 and float(true_denoising(smooth, FOUR, 1, -1, x).error) < 1e-6


@pytest.mark.parametrize(("call", "complaint"), [
    (lambda x: true_denoising(LINE, FOUR, 4, 1, x), r"t and s must be whole, 4 > t > s ≥ −1; got 4 and 1"),
    (lambda x: true_denoising(LINE, FOUR, 1, 1, x), r"t and s must be whole, 4 > t > s ≥ −1; got 1 and 1"),
    (lambda x: true_denoising(LINE, FOUR, 1.5, 0, x), r"t and s must be whole, 4 > t > s ≥ −1; got 1.5 and 0"),
    (lambda x: true_denoising(LINE, VP(), 0.2, 0.3, x), "t and s must be times"),
    (lambda x: DenoisingLaw(LINE, (0.9, 0.1), (0.8, 0.6), x), "then must have less noise than now"),
    (lambda x: true_denoising(LINE, FOUR, 1, 0, x.long()), r"x must be floats of shape \(...\); got \(3,\), torch.int64"),
    (lambda x: true_denoising(PLANE, FOUR, 1, 0, x), r"x must be floats of shape \(..., 2\); got \(3,\)"),
    (lambda x: true_denoising(LINE, FOUR, 1, 0, x / 0), "x must be finite; got NaN or inf"),
    (lambda x: true_denoising(LINE, FOUR, 1, 0, x + 1e4), r"x must lie where the data's box .* holds .*; got \[10000.0\]"),
    (lambda x: true_denoising(LINE, FOUR, 1, 0, x, points=20), "points must resolve p0: with 20 nodes an axis its integral"),
    (lambda x: true_denoising(LINE, DiscreteDiffusion(torch.full((9,), 1e-6)), 5, 1, x, points=500),
     "points must give cells narrower than the noise, σ/α = 0.0014; got 500 points, cells of 0.017"),
    (lambda x: true_denoising(PLANE, VP(), 0.5, 0.4999999, torch.zeros(1, 2)).error, "s must be further from t: a step"),
    (lambda x: true_denoising(PLANE, FOUR, 1, 0, torch.zeros(1, 2)).modes(), "modes are counted on the line only"),
    (lambda x: true_denoising(LINE, FOUR, 1, 0, x).log_prob(torch.ones(3, dtype=torch.int64)), "value must be floats"),
    (lambda x: true_denoising(GaussianMixture([1.0], [[0.0, 0.0, 0.0]], 1.0), FOUR, 1, 0, x), "p0 must be on the line"),
])  # fmt: skip
def test_what_cannot_be_answered_is_refused_by_name(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call(torch.zeros(3))
