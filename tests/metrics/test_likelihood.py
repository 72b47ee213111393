"""The gap to a known density is a KL divergence."""

import pytest
import torch
from torch.distributions import MultivariateNormal

from gmcourse import StandardNormal
from gmcourse.data import toy2d
from gmcourse.metrics import likelihood_gap


def test_gap_of_the_truth_is_exactly_zero():
    data = toy2d.get("gaussians25")
    gap = likelihood_gap(data.log_prob, data, n=100)
    assert gap.value == 0 and gap.stderr == 0


def test_gap_is_the_kl_divergence_within_its_standard_error():
    data = toy2d.get("gaussian_grid9")
    model = MultivariateNormal(torch.zeros(2), torch.diag(torch.tensor([1.5225, 1.5225])))
    gap = likelihood_gap(model.log_prob, data, n=20_000)
    by_entropy = -data.entropy() - model.log_prob(data.sample((400_000,), generator=torch.Generator().manual_seed(9))).mean()
    assert abs(gap.value - by_entropy) < 5 * gap.stderr and 0 < gap.stderr < 0.02
    assert str(gap).count("±") == 1


def test_a_model_may_stand_for_its_log_prob():
    data = toy2d.get("two_moons")
    model = StandardNormal(2)
    assert likelihood_gap(model, data, n=50) == likelihood_gap(model.log_prob, data, n=50)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="n must be a positive whole number"):
        likelihood_gap(StandardNormal(2), toy2d.get("two_moons"), n=0)


def test_a_model_that_rules_data_out_is_infinitely_far_and_nan_is_refused():
    data = toy2d.get("gaussians25")
    assert likelihood_gap(lambda x: torch.where(x[:, 0] > 0, 0.0, -torch.inf), data) == (torch.inf, torch.inf)
    with pytest.raises(ValueError, match="model must give log-densities below .inf; got NaN or .inf at 10000 of 10000"):
        likelihood_gap(lambda x: x[:, 0] * torch.nan, data)
