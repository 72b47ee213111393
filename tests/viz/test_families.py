"""The picture of the five families is exact: what it shows are densities, and at the end they are the data's."""

import numpy as np
import pytest
import torch

from gmcourse.data.toy1d import Mixture1D
from gmcourse.viz.explorers.families import BLUR, FAMILIES, OnTheLine


@pytest.fixture(scope="module")
def line():
    return OnTheLine(Mixture1D())


@pytest.mark.parametrize("s", [0.0, 0.3, 0.7, 1.0])
def test_every_family_samples_from_a_density(line, s):
    wide = np.array([np.trapezoid(density, line.x) for density in line.at(s)[1]])
    assert np.allclose(wide, 1, atol=0.012), dict(zip(FAMILIES, wide, strict=True))  # ±2.6 cuts 0.9 % off N(0, 1)


def test_with_everything_learned_all_but_the_blurred_one_are_the_truth(line):
    blurred, *others = line.at(1.0)[1]
    for density in others:
        assert np.allclose(density, line.truth, atol=5e-3)
    wanted = Mixture1D().diffused(1.0, BLUR)  # G(z) + σε with G(z) distributed as the data
    assert np.allclose(blurred, np.exp(wanted.log_prob(torch.from_numpy(line.x)).numpy()), atol=5e-3)


def test_with_nothing_learned_they_are_noise(line):
    normal = np.exp(-0.5 * line.x**2) / np.sqrt(2 * np.pi)
    _, flow, boltzmann, diffused, gan = line.at(0.0)[1]
    for density in (flow, diffused, gan, boltzmann * np.trapezoid(normal, line.x)):
        assert np.allclose(density, normal, atol=2e-3)


def test_the_judge_is_at_a_loss_in_the_end_and_right_in_between(line):
    assert np.allclose(line.at(1.0)[0][4][np.abs(line.x) < 1.8], 0.5, atol=0.01)
    learned, densities = line.at(0.4)
    assert np.allclose(learned[4] * (line.truth + densities[4]), line.truth)


def test_the_map_is_increasing_and_carries_quantiles(line):
    decoder = line.at(1.0)[0][1]
    assert (np.diff(decoder) > 0).all()
    data, normal = Mixture1D(), torch.from_numpy(line.axis)
    cdf = data.cdf(torch.from_numpy(decoder)).numpy()
    assert np.allclose(cdf, torch.special.ndtr(normal).numpy(), atol=2e-3)

