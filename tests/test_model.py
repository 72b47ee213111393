"""The protocol: shapes, meanings and refusals every model shares."""

import math

import pytest
import torch
from torch import nn

from gmcourse import GenerativeModel, Likelihood, Player, StandardNormal, device


class Point(GenerativeModel):
    """A model with nothing but an event shape and a range."""

    data_range = (-1.0, 1.0)

    def __init__(self):
        super().__init__((3, 4))
        self.weight = nn.Parameter(torch.zeros(()))


def test_standard_normal_density_is_that_of_torch():
    x = torch.randn(5, 2, 3)
    oracle = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum((1, 2))
    assert torch.allclose(StandardNormal((2, 3)).log_prob(x), oracle, atol=1e-5)


def test_standard_normal_pushes_its_own_noise_to_its_samples():
    model = StandardNormal((2, 3))
    g = torch.Generator().manual_seed(0)
    eps = model.noise(4, generator=g)
    assert eps.shape == (4, sum(model.noise_blocks.values()))
    assert torch.equal(model.push(eps), model.sample(4, generator=g.manual_seed(0)))


def test_generator_makes_samples_repeatable():
    draw = lambda: StandardNormal(2).sample(3, generator=torch.Generator().manual_seed(7))  # noqa: E731
    assert torch.equal(draw(), draw())


def test_default_is_one_player_on_the_models_loss():
    (player,) = Point().players()
    assert player.name == "point" and player.every == 1 and len(list(player.parameters())) == 1


def test_what_a_model_cannot_do_is_said():
    assert Point().likelihood is Likelihood.NONE
    for call in (Point().log_prob, Point().loss):
        with pytest.raises(NotImplementedError, match="Point"):
            call(torch.zeros(1, 3, 4))
    with pytest.raises(NotImplementedError, match="Point does not sample"):
        Point().sample(1)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(2, 4, 3), r"x must have shape \(n, 3, 4\); got \(2, 4, 3\)"),
        (torch.zeros(()), "x must have shape"),
        (torch.zeros(2, 3, 4, dtype=torch.long), "floating-point"),
    ],
)
def test_wrong_batches_are_refused_by_name(x, message):
    with pytest.raises(ValueError, match=message):
        Point().check_batch(x)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.zeros(0, 3, 4), "data is empty"),
        (torch.full((2, 3, 4), math.nan), "2 of 2 rows hold NaN or inf, the first is row 0"),
        (torch.full((2, 3, 4), 255.0), r"data must lie in \[-1, 1\] for Point; got values from 255 to 255"),
    ],
)
def test_data_that_no_model_can_use_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        Point().check_data(x)


@pytest.mark.parametrize("n", [0, -1, 1.5])
def test_a_sample_of_nothing_is_refused(n):
    with pytest.raises(ValueError, match="n must be a positive whole number"):
        StandardNormal(2).sample(n)


def test_a_player_that_never_plays_is_refused():
    with pytest.raises(ValueError, match="every must be a positive"):
        Player("idle", list, lambda x: x, every=0)


def test_device_names_a_device_that_works():
    assert torch.zeros(1, device=device()).device.type == device().type


def test_on_the_line_densities_and_checks_are_those_of_single_numbers():
    line = StandardNormal(())
    assert line.log_prob(torch.tensor([0.0, 2.0])) == pytest.approx([-0.9189385, -2.9189385])
    assert line.check_data(torch.zeros(3)).shape == (3,)
    with pytest.raises(ValueError, match="1 of 3 rows hold NaN or inf, the first is row 1"):
        line.check_data(torch.tensor([0.0, float("nan"), 1.0]))
