"""Gaussian mixtures on the line against integrals, samples, torch's own mixtures and the story of thesis Fig. 6.3."""

import math

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import kstest
from torch.distributions import Categorical, MixtureSameFamily, Normal

from gmcourse.data.toy1d import Mixture1D

F64 = torch.float64
MIXTURES = {
    "figure 6.3": Mixture1D(),
    "noisy": Mixture1D().diffused(0.8, 0.3),
    "overlapping": Mixture1D([3.0, 1.0], [0.0, 0.5], [1.0, 0.05]),
    "one": Mixture1D([1.0], [2.0], 0.5),
}
every = pytest.mark.parametrize("p", MIXTURES.values(), ids=MIXTURES)
X = torch.linspace(-6, 6, 481, dtype=F64)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def integral(f, p: Mixture1D) -> float:
    """∫ f(x) dx over the line, cut at the components' edges."""
    cuts = sorted({m + k * s for m, s in zip(p.means.tolist(), p.sigmas.tolist(), strict=True) for k in (-12, -3, 0, 3, 12)})
    pairs = zip(cuts, cuts[1:], strict=False)
    return sum(quad(lambda v: f(torch.tensor(v, dtype=F64)).item(), a, b, epsabs=1e-11)[0] for a, b in pairs)


@every
def test_density_integrates_to_one(p):
    assert abs(integral(lambda v: p.log_prob(v).exp(), p) - 1) < 1e-9


@every
def test_log_prob_is_that_of_torchs_mixture(p):
    theirs = MixtureSameFamily(Categorical(p.weights), Normal(p.means, p.sigmas), validate_args=False)
    assert torch.allclose(p.log_prob(X), theirs.log_prob(X), rtol=1e-10)
    assert torch.allclose(p.cdf(X), theirs.cdf(X), atol=1e-12)
    assert torch.allclose(p.mean, theirs.mean) and torch.allclose(p.variance, theirs.variance)


@every
def test_score_is_the_gradient_of_log_prob(p):
    x = X.clone().requires_grad_()
    gradient = torch.autograd.grad(p.log_prob(x).sum(), x)[0]
    assert torch.allclose(p.score(X), gradient, rtol=1e-9, atol=1e-9)


@every
def test_cdf_is_the_integral_of_the_density(p):
    x = X.clone().requires_grad_()
    density = torch.autograd.grad(p.cdf(x).sum(), x)[0]
    assert torch.allclose(density, p.log_prob(X).exp(), atol=1e-9)
    assert p.cdf(torch.tensor([-1e6])) == 0 and p.cdf(torch.tensor([1e6])) == 1


@every
def test_samples_follow_the_cdf(p):
    x = p.sample((50_000,), generator=seeded())
    assert kstest(x.double().numpy(), lambda v: p.cdf(torch.from_numpy(v)).numpy()).pvalue > 0.01
    assert kstest(1.03 * x.double().numpy() + 0.01, lambda v: p.cdf(torch.from_numpy(v)).numpy()).pvalue < 0.01


@every
def test_entropy_against_quadrature_and_samples(p):
    assert abs(integral(lambda v: torch.special.entr(p.log_prob(v).exp()), p) - p.entropy()) < 1e-5
    surprise = -p.log_prob(p.sample((1_000_000,), generator=seeded())).double()
    assert (surprise.mean() - p.entropy()).abs() < 4 * surprise.std() / 1000


@every
def test_diffused_moments_and_convolution(p):
    """α x + σ ε: mean α E[x], variance α² Var[x] + σ², density ∫ p(y) N(x; α y, σ²) dy."""
    alpha, sigma = 0.7, 0.4
    noisy = p.diffused(alpha, sigma)
    assert isinstance(noisy, Mixture1D)
    assert torch.allclose(noisy.mean, alpha * p.mean)
    assert torch.allclose(noisy.variance, alpha**2 * p.variance + sigma**2)
    y = torch.linspace(-12, 12, 24_001, dtype=F64)
    kernel = Normal(alpha * y, sigma).log_prob(X[::8, None]).exp()
    assert torch.allclose(kernel @ p.log_prob(y).exp() * 1e-3, noisy.log_prob(X[::8]).exp(), atol=1e-9)


@every
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_far_points_see_the_widest_component(p, dtype):
    widest = p.sigmas.argmax()
    for x in (torch.tensor([1e4, -1e4], dtype=dtype), torch.tensor([1e9, -1e9], dtype=dtype)):
        z = (x - p.means[widest]) / p.sigmas[widest]
        assert torch.allclose(p.log_prob(x), -0.5 * z.square().to(dtype), rtol=1e-3)
        assert torch.allclose(p.score(x), (-z / p.sigmas[widest]).to(dtype), rtol=1e-3)


def count_peaks(density: torch.Tensor) -> int:
    """Local maxima of a density on a grid, those above 1 % of its highest."""
    inner = density[1:-1]
    return int(((inner > density[:-2]) & (inner > density[2:]) & (inner > 0.01 * density.max())).sum())


def test_figure_6_3_large_steps_have_several_humps():
    """q(x_s | x_t) ∝ q(x_s) q(x_t | x_s): one hump after a small step back, three when it goes back to the data."""
    x, p, x_t = torch.linspace(-4, 4, 4001, dtype=F64), Mixture1D(), torch.tensor(0.3, dtype=F64)
    alpha_t = 0.3
    humps = []
    for alpha_s in (0.32, 0.6, 1.0):
        alpha = alpha_t / alpha_s
        back = Normal(alpha * x, math.sqrt(1 - alpha**2)).log_prob(x_t)
        humps.append(count_peaks((p.diffused(alpha_s, math.sqrt(1 - alpha_s**2)).log_prob(x) + back).exp()))
    assert humps[0] == 1 and humps[-1] == 3 and humps == sorted(humps)


def test_default_is_separated_and_nearly_standardised():
    p = Mixture1D()
    assert count_peaks(p.log_prob(X).exp()) == 3
    assert len(set(p.weights.tolist())) == len(set(p.sigmas.tolist())) == 3
    assert p.mean.abs() < 0.05 and 0.8 < p.variance < 1.3
    assert torch.equal(p.modes, torch.tensor([-1.0, 0.2, 1.5]))
    low, high = p.extent
    assert low < -1.5 and high > 2.2


def test_shapes_dtypes_and_seeds():
    p = Mixture1D()
    assert (p.batch_shape, p.event_shape) == ((), ())
    assert p.sample().shape == () and p.sample((2, 3)).shape == (2, 3) and p.sample(4).shape == (4,)
    for dtype in (torch.float32, F64):
        for shape in ((), (5,), (2, 3, 4), (0,)):
            x = torch.zeros(shape, dtype=dtype)
            for value in (p.log_prob(x), p.score(x), p.cdf(x)):
                assert (value.shape, value.dtype) == (shape, dtype)
    assert torch.equal(p.sample(9, generator=seeded(3)), p.sample(9, generator=seeded(3)))
    assert p.support.check(p.sample(9)).all()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (([1.0, 1.0], [[0.0], [1.0]], 1.0), r"means must have shape \(k,\), not empty; got \(2, 1\)"),
        (([], [], []), r"means must have shape \(k,\), not empty; got \(0,\)"),
        (([1.0], [0.0, 1.0], 1.0), r"weights must have shape \(2,\), one for each of the means; got \(1,\)"),
        (([1.0, 1.0], [0.0, 1.0], [1.0]), r"sigmas must have shape \(2,\)"),
        (([1.0, -1.0], [0.0, 1.0], 1.0), r"weights must be positive and finite; got \[1.0, -1.0\]"),
        (([1.0, 1.0], [0.0, 1.0], [1.0, 0.0]), r"sigmas must be positive and finite; got \[1.0, 0.0\]"),
        (([1.0, 1.0], [0.0, math.nan], 1.0), "means must be finite"),
    ],
)
def test_wrong_parameters_are_refused(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        Mixture1D(*arguments)


def test_whole_numbers_are_refused():
    with pytest.raises(ValueError, match="x must hold floating-point numbers; got torch.int64"):
        Mixture1D().log_prob(torch.arange(3))
