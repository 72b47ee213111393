"""NCE on the line: the fits against scikit-learn and scipy, the worth of noise samples against closed forms."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression

from gmcourse.metrics import ess
from gmcourse.viz.explorers.contrast import (
    BASE,
    CELL,
    DATA,
    DRAWS,
    NODES,
    PICKED,
    RIDGE,
    Contrast,
    Samples,
    bumps,
    effective_share,
    newton,
    noise,
    noise_contrastive,
    picked,
    share,
)

FEATURES, LOG_P = bumps(NODES), DATA.log_prob(NODES)


@pytest.fixture(scope="module")
def contrast():
    return Contrast()


def counts(shift, width, n=1000):
    return Samples(n, seed=0).counts(DATA), Samples(n, seed=1).counts(noise(shift, width))


def kl(log_model):
    """KL(p ‖ p̂ / ∫ p̂) for every draw."""
    log_z = torch.logsumexp(log_model, 1, keepdim=True) + math.log(CELL)
    return ((LOG_P - log_model + log_z) * LOG_P.exp()).sum(1) * CELL


def test_the_samples_of_a_density_lie_in_its_cells():
    drawn = Samples(5000, seed=3).counts(DATA)
    assert (drawn.sum(1) == 5000).all()
    border = DATA.cdf(NODES[:-1] + CELL / 2).numpy()
    expected = DRAWS * 5000 * np.diff(border, prepend=0.0, append=1.0)
    often, found = expected > 20, drawn.sum(0).numpy()
    assert stats.chisquare(found[often], expected[often] * found[often].sum() / expected[often].sum()).pvalue > 1e-4


def test_a_fit_is_the_one_of_scikit_learn():
    """Without an offset, which scikit-learn does not know: the noise is the base measure."""
    ones, zeros = (c[:3] for c in counts(0.0, 1.5, n=300))
    theta = newton(FEATURES, torch.zeros(len(NODES)).double(), ones, zeros)
    labels, x = np.repeat([1, 0], len(NODES)), torch.cat((FEATURES, FEATURES)).numpy()
    for row, one, zero in zip(theta, ones, zeros, strict=True):
        oracle = LogisticRegression(C=1 / RIDGE, fit_intercept=False, tol=1e-10, max_iter=1000)
        oracle.fit(x, labels, sample_weight=torch.cat((one, zero)).numpy())
        assert np.allclose(row, oracle.coef_[0], atol=1e-3)


@pytest.mark.parametrize(("shift", "width"), [(2.0, 1.5), (6.0, 0.6)])
def test_with_an_offset_a_fit_is_where_an_optimiser_ends_up(shift, width):
    ones, zeros = (c[:1] for c in counts(shift, width))
    offset = BASE.log_prob(NODES) - noise(shift, width).log_prob(NODES)
    theta = newton(FEATURES, offset, ones, zeros)[0]

    def loss(value):
        value = torch.tensor(value, requires_grad=True)
        logit = FEATURES @ value + offset
        bce = torch.nn.functional.binary_cross_entropy_with_logits
        total = 0.5 * RIDGE * value.square().sum()
        for label, count in ((1.0, ones), (0.0, zeros)):
            total = total + bce(logit, torch.full_like(logit, label), count[0], reduction="sum")
        total.backward()
        return total.item(), value.grad.numpy()

    found = optimize.minimize(loss, np.zeros(len(theta)), jac=True, method="BFGS", options={"gtol": 1e-6})
    assert np.allclose(theta, found.x, atol=1e-3)


@pytest.mark.parametrize("n", [100, 1000, 10000])
@pytest.mark.parametrize(("shift", "width"), [(0.0, 0.6), (0.0, 3.0), (2.0, 1.5), (4.0, 0.6), (6.0, 3.0)])
def test_newton_has_arrived(shift, width, n):
    ones, zeros = counts(shift, width, n)
    offset = BASE.log_prob(NODES) - noise(shift, width).log_prob(NODES)
    theta = newton(FEATURES, offset, ones, zeros)
    d = torch.sigmoid(theta @ FEATURES.T + offset)
    gradient = (d * (ones + zeros) - ones) @ FEATURES + RIDGE * theta
    assert gradient.abs().max() < 1e-4


def test_under_near_noise_the_model_is_the_data(contrast):
    log_model, _, _ = contrast.at(0.0, 1.5, 10000)
    assert kl(log_model).max() < 0.005  # 13 weights from 20 000 samples: about 13/20000 and the bumps' own error
    assert (log_model.exp().sum(1) * CELL - 1).abs().max() < 0.06


def test_the_estimate_scatters_more_and_more_as_the_noise_moves_away(contrast):
    where = (NODES + 1.0).abs().argmin()  # the mode on the far side
    spread = [float(contrast.at(shift, 1.5, 10000)[0][:, where].std()) for shift in (0.0, 2.0, 3.0, 4.0)]
    assert spread == sorted(spread) and spread[-1] > 5 * spread[0]
    errors = [float(kl(contrast.at(shift, 1.5, 10000)[0]).mean()) for shift in (0.0, 2.0, 4.0, 6.0)]
    assert errors == sorted(errors) and errors[-1] > 0.1


def test_more_samples_help_near_noise_and_hardly_far_noise(contrast):
    few, many = (kl(contrast.at(0.0, 1.5, n)[0]).mean() for n in (100, 10000))
    assert many < few / 10
    few, many = (kl(contrast.at(6.0, 1.5, n)[0]).mean() for n in (100, 10000))
    assert many > few / 10


@pytest.mark.parametrize(("shift", "width"), [(0.0, 1.0), (1.0, 1.0), (2.0, 1.5), (0.5, 0.8)])
def test_the_worth_of_a_sample_between_gaussians_has_a_closed_form(shift, width):
    """∫ N(0, 1)²/N(m, s²) = s² exp(m²/(2s² − 1)) / √(2s² − 1)."""
    excess = 2 * width**2 - 1
    wanted = math.sqrt(excess) / width**2 * math.exp(-(shift**2) / excess)
    found = effective_share(noise(0.0, 1.0).log_prob(NODES), noise(shift, width).log_prob(NODES))
    assert float(found) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("shift", [0.0, 1.0, 2.0])
def test_while_nce_works_its_weights_are_worth_what_theory_says(contrast, shift):
    log_model, log_q, drawn = contrast.at(shift, 1.5, 10000)
    found = share((log_model - log_q).exp(), drawn)
    assert torch.allclose(found.mean(), effective_share(LOG_P, log_q), rtol=0.1)


def test_the_share_is_the_effective_sample_size_of_the_samples_one_by_one():
    generator = torch.Generator().manual_seed(0)
    weights, drawn = torch.rand(2, 40, generator=generator).double(), torch.randint(0, 5, (2, 40), generator=generator)
    for found, w, c in zip(share(weights, drawn), weights, drawn, strict=True):
        assert float(found) == pytest.approx(ess(w.log().repeat_interleave(c)) / int(c.sum()))


def test_resampling_picks_every_node_as_often_as_its_weight_says_but_for_one():
    weights = torch.rand(len(NODES), generator=torch.Generator().manual_seed(0)).double() ** 8
    often = torch.bincount(torch.searchsorted(NODES, torch.from_numpy(picked(weights))), minlength=len(NODES))
    assert often.sum() == PICKED
    assert (often - PICKED * weights / weights.sum()).abs().max() < 1


def test_the_same_values_give_the_same_picture():
    first, second = noise_contrastive(), noise_contrastive()
    first.picture(shift=5.0)
    assert first.picture(shift=2.0) == second.picture(shift=2.0)
