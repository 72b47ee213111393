"""Expectation-maximisation against scikit-learn, closed forms, and the bound that it climbs."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import norm
from sklearn.mixture import GaussianMixture as Oracle
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, kl_divergence

from gmcourse import Likelihood
from gmcourse.data.toy1d import Mixture1D
from gmcourse.mixture import MixtureModel, em_bound, fit_em, m_step

K, D = 3, 2
TRUE_MEANS = torch.tensor([[-2.0, 0.0], [1.0, 2.0], [1.5, -1.0]], dtype=torch.float64)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_data(n=400):
    """Overlapping clusters, so that EM has a long way to go."""
    g = seeded(3)
    stretch = torch.tensor([[1.0, 0.6], [0.0, 0.5]], dtype=torch.float64)
    z = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), n, replacement=True, generator=g)
    return TRUE_MEANS[z] + torch.randn(n, D, dtype=torch.float64, generator=g) @ stretch


def some_model():
    """Not where EM ends."""
    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    covariances = torch.tensor([[1.0, 0.3], [0.3, 0.8]], dtype=torch.float64).repeat(K, 1, 1)
    return MixtureModel.from_parameters(weights, 0.3 * TRUE_MEANS, covariances)


def oracle_after(steps, model, x):
    """scikit-learn's mixture after so many steps from the same start."""
    found = Oracle(
        K,
        max_iter=steps,
        tol=0.0,
        reg_covar=0.0,
        weights_init=model.weights.numpy(),
        means_init=model.means.numpy(),
        precisions_init=torch.linalg.inv(model.covariances).numpy(),
    )
    return found.fit(x.numpy())


@pytest.mark.filterwarnings("ignore")  # scikit-learn minds being stopped before it has converged
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_parameters_are_those_of_scikit_learn_after_any_number_of_steps(steps):
    x, model = some_data(), some_model()
    oracle = oracle_after(steps, model, x)
    fit_em(model, x, steps=steps, tol=-math.inf)
    for mine, theirs in (
        (model.weights, oracle.weights_),
        (model.means, oracle.means_),
        (model.covariances, oracle.covariances_),
        (model.log_prob(x), oracle.score_samples(x.numpy())),
        (model.responsibilities(x), oracle.predict_proba(x.numpy())),
    ):
        assert torch.allclose(mine, torch.as_tensor(theirs), rtol=0, atol=1e-6)


def test_log_prob_is_that_of_torchs_mixture():
    x, model = some_data(), some_model()
    components = MultivariateNormal(model.means, model.covariances)
    assert torch.allclose(model.log_prob(x), MixtureSameFamily(Categorical(model.weights), components).log_prob(x))


@pytest.mark.parametrize("floor", [1e-6, 0.3])
def test_the_likelihood_never_falls(floor):
    """With a floor that bites, too: the floored M-step is the maximum under its constraint. The start keeps to it."""
    x, model = some_data(), some_model()
    history = fit_em(model, x, steps=60, tol=-math.inf, floor=floor)
    assert len(history) == 61 and history[-1] > history[0] + 0.1
    assert (history.diff() > -1e-12).all()
    assert torch.linalg.eigvalsh(model.covariances).min() > floor - 1e-9
    assert history[-1].item() == pytest.approx(model.log_prob(x).mean().item())


def test_a_floor_that_bites_leaves_a_maximum():
    """No covariance above the floor has a larger expected log-density than the floored one: 500 random rivals."""
    x, r, floor = some_data(50) * torch.tensor([1.0, 0.1]), torch.ones(50, 1, dtype=torch.float64), 0.5
    _, means, covariances = m_step(x, r, floor=floor)
    best = MultivariateNormal(means[0], covariances[0]).log_prob(x).mean()
    assert torch.linalg.eigvalsh(covariances[0])[0].item() == pytest.approx(floor)
    nudges = 0.2 * torch.randn(500, D, D, dtype=torch.float64, generator=seeded())
    roots = torch.linalg.cholesky(covariances[0] - floor * (1 - 1e-6) * torch.eye(D)) + nudges
    rivals = roots @ roots.mT + floor * torch.eye(D)
    assert (MultivariateNormal(means[0], rivals).log_prob(x[:, None]).mean(0) <= best + 1e-12).all()


def test_one_component_is_solved_by_the_empirical_mean_and_covariance():
    """Thesis 1.2.1: what maximum likelihood gives for a Gaussian; the covariance is divided by n, not n − 1."""
    x = some_data()
    model = MixtureModel.from_data(x, 1)
    fit_em(model, x, steps=1)
    assert torch.allclose(model.means[0], x.mean(0))
    assert torch.allclose(model.covariances[0], x.T.cov(correction=0))
    assert model.weights.tolist() == [1.0]


def test_maximum_likelihood_minimises_the_kl_divergence():
    """Thesis (1.9)–(1.10): on many samples the Gaussian that EM finds is the one that minimises KL(p ‖ ·) by quadrature."""
    p = Mixture1D([0.7, 0.3], [-1.0, 1.5], [0.5, 0.8])

    grid = np.linspace(-7, 8, 3001)
    density = 0.7 * norm.pdf(grid, -1.0, 0.5) + 0.3 * norm.pdf(grid, 1.5, 0.8)

    def kl(theta):
        mean, log_sigma = theta
        return np.trapezoid(density * (np.log(density) - norm.logpdf(grid, mean, math.exp(log_sigma))), grid)

    closest = minimize(kl, [0.0, 0.0], tol=1e-6).x
    n = 200_000
    x = p.sample(n, generator=seeded()).double()[:, None]
    model = MixtureModel.from_data(x, 1)
    fit_em(model, x, steps=1)
    sd = float(p.variance) ** 0.5
    assert abs(model.means.item() - closest[0]) < 5 * sd / n**0.5
    assert abs(model.covariances.item() - math.exp(2 * closest[1])) < 5 * x.sub(x.mean()).square().std() / n**0.5


def test_the_bound_touches_the_likelihood_after_the_e_step():
    x, model = some_data(), some_model()
    assert torch.allclose(em_bound(model, x, model.responsibilities(x)), model.log_prob(x))


def test_the_gap_of_the_bound_is_the_kl_to_the_responsibilities():
    """log p(x) − B(r, θ) = KL(r ‖ p(z|x)) for any r: EM is a special case of climbing the variational bound."""
    x, model = some_data(), some_model()
    r = torch.distributions.Dirichlet(torch.ones(K, dtype=torch.float64)).sample((len(x),))
    kl = kl_divergence(Categorical(r), Categorical(model.responsibilities(x)))
    assert torch.allclose(model.log_prob(x) - em_bound(model, x, r), kl)


def test_the_m_step_is_where_the_gradient_of_the_bound_vanishes():
    x, model = some_data(), some_model()
    r = model.responsibilities(x)
    new = MixtureModel.from_parameters(*m_step(x, r))
    logits = new.weights.log().requires_grad_()
    new.means.requires_grad_(), new.covariances.requires_grad_()
    new.weights = logits.softmax(0)
    gradients = torch.autograd.grad(em_bound(new, x, r).mean(), (logits, new.means, new.covariances))
    assert max(g.abs().max() for g in gradients) < 1e-10
    assert em_bound(new, x, r).mean() > em_bound(model, x, r).mean() + 0.1


def test_hard_responsibilities_cost_no_entropy_and_no_nan():
    x, model = some_data(), some_model()
    hard = torch.nn.functional.one_hot(model.responsibilities(x).argmax(1), K).double()
    wanted = model.log_joint(x).gather(1, hard.argmax(1, keepdim=True))[:, 0]
    assert torch.allclose(em_bound(model, x, hard), wanted)


def test_samples_have_the_moments_of_the_mixture():
    model, n = some_model(), 100_000
    x = model.sample(n, generator=seeded())
    mean = model.weights @ model.means
    centred = model.means - mean
    covariance = torch.einsum("k,kij->ij", model.weights, model.covariances + centred[:, :, None] * centred[:, None])
    assert ((x.mean(0) - mean).abs() < 5 * (covariance.diag() / n).sqrt()).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None]
    assert ((products.mean(0) - covariance).abs() < 5 * products.std(0) / n**0.5).all()
    assert torch.equal(x, model.sample(n, generator=seeded()))


def test_from_data_finds_clusters_that_keep_apart():
    """Twelve far clusters: the best of five starts has one mean in each."""
    centres = 20 * torch.cartesian_prod(torch.arange(4.0), torch.arange(3.0))
    x = centres.repeat(100, 1) + torch.randn(1200, 2, generator=seeded())
    best = max(
        (MixtureModel.from_data(x, 12, generator=seeded(seed)) for seed in range(5)),
        key=lambda model: fit_em(model, x, steps=20)[-1],
    )
    distance, nearest = torch.cdist(centres, best.means).min(1)
    assert distance.max() < 0.5 and nearest.unique().numel() == 12
    one, again = (MixtureModel.from_data(x, 12, generator=seeded(7)) for _ in range(2))
    assert torch.equal(one.means, again.means)


def test_a_component_without_data_stays_put_with_weight_zero():
    x = some_data().float()
    far = torch.tensor([[-1.0, 0.0], [1.0, 1.0], [1e4, 1e4]])
    model = MixtureModel.from_parameters(torch.full((3,), 1 / 3), far, torch.eye(2).repeat(3, 1, 1))
    with pytest.warns(UserWarning, match=r"components \[2\] have lost all their data"):
        history = fit_em(model, x, steps=5)
    assert model.weights[2] == 0 and torch.equal(model.means[2], far[2])
    assert history.isfinite().all() and (history.diff() > -1e-5).all()
    assert model.log_prob(x).isfinite().all() and model.sample(100).isfinite().all()
    assert em_bound(model, x, model.responsibilities(x)).isfinite().all()


def test_a_component_on_a_single_point_ends_at_the_floor():
    """Without a floor its density would grow without limit."""
    x = torch.cat([some_data(), torch.tensor([[40.0, 40.0]], dtype=torch.float64)])
    means = torch.stack([x[:-1].mean(0), x[-1]])
    model = MixtureModel.from_parameters(torch.tensor([0.5, 0.5]), means, torch.eye(2).repeat(2, 1, 1))
    fit_em(model, x, floor=1e-3)
    assert torch.allclose(model.covariances[1], 1e-3 * torch.eye(2, dtype=torch.float64))
    assert model.weights[1].item() == pytest.approx(1 / 401)


def test_it_is_saved_and_loaded_like_any_module(tmp_path):
    model = some_model()
    torch.save(model.state_dict(), tmp_path / "mixture.pt")
    copy = MixtureModel(K, D).double()
    copy.load_state_dict(torch.load(tmp_path / "mixture.pt"))
    x = some_data()
    assert torch.equal(copy.log_prob(x), model.log_prob(x))
    assert model.likelihood is Likelihood.EXACT and model.event_shape == (D,)
    with pytest.raises(NotImplementedError, match="train it with gmcourse.mixture.fit_em"):
        model.players()


EYES, given = torch.eye(2).repeat(2, 1, 1), MixtureModel.from_parameters


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fit_em(MixtureModel(3, 2), torch.zeros(2, 2)), "at least as many points as there are components, 3; got 2"),
        (lambda: MixtureModel.from_data(torch.zeros(2, 2), 3), "at least as many points as there are components, 3; got 2"),
        (lambda: MixtureModel.from_data(torch.zeros(9, 2), 3), "x must hold at least 3 different points; got 1"),
        (lambda: MixtureModel.from_data(torch.zeros(9), 3), r"shape \(n, d\); got torch.float32, shape \(9,\)"),
        (lambda: MixtureModel.from_data(torch.zeros(9, 2).long(), 3), "floating-point numbers.*; got torch.int64"),
        (lambda: fit_em(MixtureModel(3, 2), torch.zeros(9, 4)), r"x must have shape \(n, 2\); got \(9, 4\)"),
        (lambda: fit_em(MixtureModel(3, 2), torch.full((9, 2), math.nan)), "x must be finite; 9 of 9 rows"),
        (lambda: fit_em(MixtureModel(3, 2), some_data()), "x must have the model's dtype, torch.float32; got torch.float64"),
        (lambda: fit_em(MixtureModel(3, 2), torch.zeros(9, 2), steps=0), "steps must be a positive whole number; got 0"),
        (lambda: MixtureModel(0, 2), "components must be a positive whole number; got 0"),
        (lambda: MixtureModel(2, 0), "dims must be a positive whole number; got 0"),
        (lambda: some_model().log_prob(torch.zeros(3, 5)), r"x must have shape \(n, 2\); got \(3, 5\)"),
        (lambda: some_model().sample(0), "n must be a positive whole number; got 0"),
        (
            lambda: given(torch.ones(3) / 3, torch.zeros(2, 2), EYES),
            r"weights must have shape \(2,\) beside means \(2, 2\); got \(3,\)",
        ),
        (
            lambda: given(torch.ones(2) / 2, torch.zeros(2, 2), torch.eye(2)),
            r"covariances must have shape \(2, 2, 2\)",
        ),
        (lambda: given(torch.ones(2), torch.zeros(2, 2), EYES), r"sum to 1; got \[1.0, 1.0\]"),
        (lambda: given(torch.ones(2) / 2, torch.zeros(2, 2), -EYES), "symmetric and positive definite"),
        (lambda: given(torch.ones(2) / 2, torch.zeros(2), EYES), r"means must be .* shape \(k, d\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("scale", [1.0, 10.0, 1000.0])
def test_points_on_a_line_are_fitted_in_single_precision(scale):
    """Across the line the variance is 0, and what float32 makes of it is not even positive."""
    t = scale * torch.randn(500, generator=torch.Generator().manual_seed(0))
    x = torch.stack([t, 0.7 * t], 1)
    model = MixtureModel.from_data(x, 3, generator=torch.Generator().manual_seed(0))
    assert fit_em(model, x, steps=20).isfinite().all() and model.log_prob(x).isfinite().all()
