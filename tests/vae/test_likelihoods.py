"""What a decoder's output means."""

import pytest
import torch
from torch import distributions as td

from gmcourse.vae import Bernoulli, Gaussian


@pytest.mark.parametrize("learned", [None, "global"])
def test_gaussian_with_one_sigma_is_torchs(learned):
    out, x = torch.randn(5, 3), torch.randn(5, 3)
    oracle = td.Normal(out, 0.4).log_prob(x).sum(1)
    assert torch.allclose(Gaussian(0.4, learned)(out).log_prob(x), oracle, atol=1e-4)


def test_gaussian_per_pixel_reads_sigma_off_the_second_half():
    out, x = torch.randn(5, 4, 2, 2), torch.randn(5, 2, 2, 2)
    sigma = 0.4 * (5 * torch.tanh(out[:, 2:] / 5)).exp()
    oracle = td.Normal(out[:, :2], sigma).log_prob(x).sum((1, 2, 3))
    assert torch.allclose(Gaussian(0.4, "pixel")(out).log_prob(x), oracle, rtol=1e-4, atol=1e-3)
    assert Gaussian(0.4, "pixel").outputs((2, 2, 2)) == (4, 2, 2)


def test_only_a_learned_sigma_is_a_parameter():
    counts = [len(list(Gaussian(1.0, kind).parameters())) for kind in (None, "global", "pixel")]
    assert counts == [0, 1, 0]


def test_push_of_standard_noise_has_the_likelihoods_moments():
    torch.manual_seed(0)
    out = torch.tensor([[1.0, -2.0]]).expand(200_000, 2)
    x = Gaussian(0.3).push(out, torch.randn(200_000, 2))
    assert torch.allclose(x.mean(0), out[0], atol=0.005) and torch.allclose(x.std(0), torch.full((2,), 0.3), atol=0.005)


def test_bernoulli_of_binary_images_is_torchs():
    logits, x = torch.randn(5, 1, 4, 4), torch.randint(0, 2, (5, 1, 4, 4)).float()
    oracle = td.Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3))
    assert torch.allclose(Bernoulli()(logits).log_prob(x), oracle, atol=1e-4)


def test_bernoulli_of_a_grey_value_is_the_average_over_its_binarisations():
    logit, grey = torch.tensor([[0.7]]), 0.3
    score = Bernoulli()(logit)
    average = grey * score.log_prob(torch.ones(1, 1)) + (1 - grey) * score.log_prob(torch.zeros(1, 1))
    assert torch.allclose(score.log_prob(torch.full((1, 1), grey)), average)


def test_bernoulli_scores_every_image_under_every_decoder_output():
    logits, x = torch.randn(6, 1, 2, 2), torch.rand(3, 1, 2, 2)
    pairs = Bernoulli()(logits).log_prob(x.unsqueeze(1))
    assert pairs.shape == (3, 6)
    assert torch.allclose(pairs[1], torch.stack([Bernoulli()(out[None]).log_prob(x[1:2])[0] for out in logits]), atol=1e-5)


def test_bernoulli_samples_are_coins_with_the_given_mean():
    x = Bernoulli().sample(torch.full((20_000, 1), 1.0), generator=torch.Generator().manual_seed(0))
    assert set(x.unique().tolist()) == {0.0, 1.0} and abs(x.mean() - torch.tensor(1.0).sigmoid()) < 0.015


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0.0,), "sigma must be positive; got 0"), ((1.0, "row"), "learned must be None, 'global' or 'pixel'")],
)
def test_bad_settings_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Gaussian(*arguments)


@pytest.mark.parametrize("shapes", [((5, 4), (5, 4)), ((5, 1), (5, 4)), ((7, 2, 3), (5, 1, 2, 3)), ((0, 4), (0, 4))])
def test_one_sigma_for_all_is_the_normal_of_torch_whatever_broadcasts(shapes):
    """The sum of Normal.log_prob over the event, also where mean and x only broadcast to it, and for an empty batch."""
    mean, x = (torch.randn(shape) for shape in shapes)
    oracle = td.Normal(mean, 0.7).log_prob(x).flatten(1 - mean.ndim).sum(-1)
    assert torch.allclose(Gaussian(0.7)(mean).log_prob(x), oracle, atol=1e-4)
