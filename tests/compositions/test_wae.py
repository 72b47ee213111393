"""MMD² as a penalty: against closed forms, quadrature and double loops; and codes that it brings to the prior."""

import math

import pytest
import torch
from torch import nn

from gmcourse import checkpoint, fit
from gmcourse.compositions.wae import IMQ, RBF, SCALES, WassersteinAutoencoder, mmd2_unbiased
from gmcourse.fit import cosine
from gmcourse.metrics import mmd2
from gmcourse.mixture import MixtureModel
from gmcourse.model import StandardNormal

KERNELS = [RBF(0.8), IMQ(0.7), IMQ(scales=SCALES)]
LINE = torch.linspace(-9, 9, 1500, dtype=torch.float64)


def cloud(shape, seed, mean=0.0, scale=1.0):
    return mean + scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def wae(**settings):
    torch.manual_seed(0)
    return WassersteinAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(2), **settings)


def plane_in_four(n, seed=0):
    """2-D Gaussian data off the origin in 4-D, of deviations 2 and 0.5 along two axes that are at right angles."""
    axes = torch.tensor([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 1.0, -1.0]]) / 2
    u = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed)) * torch.tensor([2.0, 0.5])
    return u @ axes + 1.0


def trained(**settings):
    model = wae(**settings)
    fit(model, plane_in_four(2000), steps=200, batch_size=64, lr=4e-2, schedule=cosine(), progress=False)
    return model


def expected_rbf(mean1, scale1, mean2, scale2, d, h):
    """MMD² between N(mean1 e, scale1² I) and N(mean2 e, scale2² I), e a unit vector: Gaussian integrals."""

    def k(distance, variance):
        return (h**2 / (h**2 + variance)) ** (d / 2) * math.exp(-(distance**2) / (2 * (h**2 + variance)))

    return k(0, 2 * scale1**2) + k(0, 2 * scale2**2) - 2 * k(mean1 - mean2, scale1**2 + scale2**2)


def expected_imq(mean, scale, c):
    """∬ (q − p)(a) (q − p)(b) c/(c + (a − b)²), p = N(0, 1), q = N(mean, scale²), by the midpoint rule."""
    q, p = (torch.distributions.Normal(m, s).log_prob(LINE).exp() for m, s in ((mean, scale), (0.0, 1.0)))
    return float((q - p) @ (c / (c + (LINE[:, None] - LINE).square())) @ (q - p)) * float(LINE[1] - LINE[0]) ** 2


def repeated(kernel, *, n, m, d, mean, scale, times=1000):
    """Estimates from fresh samples of N(mean e, scale² I) and N(0, I)."""
    shift = mean * torch.eye(d, dtype=torch.float64)[0]
    codes, draws = shift + cloud((times, n, d), 0, scale=scale), cloud((times, m, d), 1)
    return torch.vmap(lambda x, y: mmd2_unbiased(x, y, kernel))(codes, draws)


def by_loops(x, y, kernel):
    def mean(a, b, same):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not same or i != j]
        return sum(kernel(a[i : i + 1], b[j : j + 1])[0, 0] for i, j in pairs) / len(pairs)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


@pytest.mark.parametrize(("n", "m", "d"), [(12, 12, 2), (30, 7, 5)])
def test_with_the_rbf_kernel_it_is_the_mmd_of_the_metrics(n, m, d):
    x, y = cloud((n, d), 0, mean=50.0), cloud((m, d), 1, mean=50.4)
    assert float(mmd2_unbiased(x, y, RBF(0.8))) == pytest.approx(mmd2(x, y, bandwidth=0.8).value, abs=1e-12)


@pytest.mark.parametrize(("mean", "scale"), [(0.7, 1.0), (0.0, 1.5), (-1.0, 0.4)])
def test_its_mean_is_the_closed_form_between_gaussians(mean, scale):
    found, wanted = repeated(RBF(1.2), n=9, m=14, d=3, mean=mean, scale=scale), expected_rbf(mean, scale, 0, 1, 3, 1.2)
    assert abs(found.mean() - wanted) < 4.5 * found.std() / len(found) ** 0.5
    assert wanted > 10 * found.std() / len(found) ** 0.5  # so that leaving it out would be seen


@pytest.mark.parametrize(("mean", "scale"), [(1.5, 1.0), (0.0, 2.0)])
def test_its_mean_under_imq_is_the_integral_on_the_line(mean, scale):
    found = repeated(IMQ(sigma=0.5, scales=(0.4, 2.0)), n=9, m=14, d=1, mean=mean, scale=scale)
    wanted = expected_imq(mean, scale, 0.4 * 0.5) + expected_imq(mean, scale, 2 * 0.5)  # C = 2dσ² = 0.5
    assert abs(found.mean() - wanted) < 4.5 * found.std() / len(found) ** 0.5
    assert wanted > 10 * found.std() / len(found) ** 0.5


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_of_equal_laws_it_is_zero_on_average_and_often_negative(kernel):
    found = repeated(kernel, n=16, m=16, d=2, mean=0.0, scale=1.0)
    assert abs(found.mean()) < 4.5 * found.std() / len(found) ** 0.5
    assert 0.45 < (found < 0).double().mean() < 0.75  # its law is skewed: many a little below 0, few far above


def test_the_constant_of_imq_is_the_mean_squared_distance_of_two_draws_of_the_prior():
    a, b = cloud((20_000, 6), 0, scale=1.7), cloud((20_000, 6), 1, scale=1.7)
    squares = (a - b).square().sum(1)
    at = IMQ(sigma=1.7)(torch.zeros(1, 6).double(), torch.eye(6).double()[:1] * squares.mean().sqrt())
    assert abs(float(at) - 0.5) < 4.5 * float(squares.std() / len(a) ** 0.5 / squares.mean()) / 4  # d/dr C/(C + r) = −1/4C


@pytest.mark.parametrize("kernel", KERNELS, ids=str)
def test_value_and_gradient_are_those_of_a_double_loop(kernel):
    x, y = cloud((6, 3), 0).requires_grad_(), cloud((5, 3), 1).requires_grad_()
    fast, slow = mmd2_unbiased(x, y, kernel), by_loops(x, y, kernel)
    assert torch.allclose(fast, slow, atol=1e-13)
    for one, other in zip(torch.autograd.grad(fast, (x, y)), torch.autograd.grad(slow, (x, y)), strict=True):
        assert torch.allclose(one, other, atol=1e-13) and one.abs().max() > 1e-3
    assert torch.autograd.gradcheck(lambda a, b: mmd2_unbiased(a, b, kernel), (x, y))


@pytest.mark.parametrize(("mean", "scale"), [(0.8, 1.0), (0.0, 2.0), (0.0, 0.4)])
def test_its_gradient_is_on_average_that_of_the_closed_form_and_leads_to_the_prior(mean, scale):
    """Codes z = mean + scale·ε: d/d mean and d/d scale of the mean over batches, against differences of the closed form."""
    at = torch.tensor([mean, scale], dtype=torch.float64)

    def penalty(at, noise, draws):
        return mmd2_unbiased(at[0] + at[1] * noise, draws, RBF(1.0))

    grads = torch.vmap(torch.func.grad(penalty), (None, 0, 0))(at, cloud((2000, 12, 1), 0), cloud((2000, 12, 1), 1))
    steps = [(1e-5, 0.0), (0.0, 1e-5)]
    wanted = torch.tensor([
        (expected_rbf(mean + a, scale + b, 0, 1, 1, 1.0) - expected_rbf(mean - a, scale - b, 0, 1, 1, 1.0)) / 2e-5
        for a, b in steps
    ], dtype=torch.float64)
    assert ((grads.mean(0) - wanted).abs() < 4.5 * grads.std(0) / len(grads) ** 0.5).all()
    away = at - torch.tensor([0.0, 1.0], dtype=torch.float64)
    assert float(wanted @ away) > 0


def test_codes_that_coincide_have_a_finite_gradient_and_far_ones_feel_imq_but_not_rbf():
    same = torch.ones(8, 3, requires_grad=True)
    pulls = {}
    for kernel in (RBF(1.0), IMQ()):
        assert torch.autograd.grad(mmd2_unbiased(same, torch.randn(8, 3), kernel), same)[0].isfinite().all()
        far = (torch.arange(8.0)[:, None] * 40 + 100.0).requires_grad_()
        pulls[type(kernel)] = torch.autograd.grad(mmd2_unbiased(far, torch.randn(8, 1), kernel), far)[0].abs().max()
    assert pulls[RBF] == 0 and pulls[IMQ] > 0


def test_half_precision_does_not_reach_the_distances():
    x, y = (cloud((64, 8), s).float() for s in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = mmd2_unbiased(x, y, IMQ())
    assert inside.dtype == torch.float32 and torch.equal(inside, mmd2_unbiased(x, y, IMQ()))


def test_the_loss_is_the_weighted_distortion_plus_the_weighted_mmd_of_codes_and_prior():
    model, x = wae(weight=7.0, kernel=RBF(1.3), beta=0.4), plane_in_four(20)
    torch.manual_seed(5)
    loss = model.loss(x)
    torch.manual_seed(5)
    penalty = mmd2(model.encode(x), torch.randn(20, 2), bandwidth=1.3).value
    assert torch.allclose(loss, 0.4 * (x - model.reconstruct(x)).square().sum(1) / 2 + 7.0 * penalty, rtol=1e-5)


def from_the_prior(z):
    """Largest departure of the moments of z from those of N(0, I)."""
    return max(float(z.mean(0).abs().max()), float((z.T.cov() - torch.eye(2)).abs().max()))


@pytest.mark.parametrize("kernel", [IMQ(), RBF(1.5)], ids=str)
def test_trained_codes_follow_the_prior_and_samples_the_data(kernel):
    model, x = trained(weight=50.0, kernel=kernel), plane_in_four(2000)
    assert from_the_prior(model.encode(x)) < 0.25
    assert (x - model.reconstruct(x)).square().mean() < 0.03  # of a variance of 1.1 per axis
    drawn = model.sample(4000, generator=torch.Generator().manual_seed(0))
    assert (drawn.mean(0) - x.mean(0)).abs().max() < 0.2
    assert (drawn.T.cov() - x.T.cov()).abs().max() < 0.3


def test_without_weight_codes_do_not_follow_the_prior():
    assert from_the_prior(trained(weight=1e-6).encode(plane_in_four(2000))) > 0.6


def test_the_prior_may_be_a_mixture_and_stays_as_it_is():
    prior = MixtureModel.from_parameters(
        torch.tensor([0.5, 0.5]), torch.tensor([[-2.0, 0.0], [2.0, 0.0]]), 0.1 * torch.eye(2).expand(2, 2, 2)
    )
    before = [t.clone() for t in prior.state_dict().values()]
    model = WassersteinAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), prior, weight=20.0)
    fit(model, plane_in_four(500), steps=3, batch_size=50, progress=False)
    assert all(torch.equal(a, b) for a, b in zip(before, prior.state_dict().values(), strict=True))


def test_a_saved_model_comes_back(tmp_path):
    model, other = wae(), wae()
    fit(model, plane_in_four(100), steps=2, batch_size=50, progress=False)
    x = plane_in_four(5, seed=1)
    assert not torch.equal(model.encode(x), other.encode(x))
    checkpoint.save(tmp_path / "wae.safetensors", model)
    checkpoint.load(tmp_path / "wae.safetensors", other)
    assert torch.equal(model.encode(x), other.encode(x)) and torch.equal(model.reconstruct(x), other.reconstruct(x))


@pytest.mark.parametrize(("make", "word"), [
    (lambda: wae(weight=0.0), "weight must be positive"),
    (lambda: wae(weight=-1.0), "weight must be positive"),
    (lambda: wae(beta=0.0), "beta must be positive"),
    (lambda: RBF(0.0), "width must be positive"),
    (lambda: IMQ(sigma=-1.0), "sigma must be positive"),
    (lambda: IMQ(scales=(1.0, 0.0)), "scales must be positive"),
    (lambda: IMQ(scales=()), "scales must hold at least one"),
    (lambda: mmd2_unbiased(torch.zeros(1, 2), torch.zeros(3, 2), IMQ()), "x must have at least 2 rows"),
    (lambda: mmd2_unbiased(torch.zeros(3, 2), torch.zeros(1, 2), IMQ()), "y must have at least 2 rows"),
    (lambda: mmd2_unbiased(torch.zeros(3, 2), torch.zeros(3, 1), IMQ()), "must have shapes"),
    (lambda: mmd2_unbiased(torch.zeros(3), torch.zeros(3), IMQ()), "must have shapes"),
    (lambda: wae().loss(torch.zeros(1, 4)), "x must have at least 2 rows"),
    (lambda: wae().loss(torch.zeros(2, 3)), "x must have shape"),
    (lambda: WassersteinAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), StandardNormal(3)), "prior of z"),
])
def test_bad_input_is_named(make, word):
    with pytest.raises(ValueError, match=word):
        make()
