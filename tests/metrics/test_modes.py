"""Modes: a perfect sampler's report is known, and so is that of samplers with a planted fault."""

import math

import pytest
import torch

from gmcourse.data import toy2d
from gmcourse.data.mixtures import GaussianMixture
from gmcourse.data.toy1d import Mixture1D
from gmcourse.metrics.modes import ModeReport, mode_report, stacked_mnist_modes


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_perfect_sampler_on_25_gaussians():
    """1 − e⁻⁸ within 4σ, all modes, 2n·KL about chi-square with 24 degrees of freedom."""
    data, n = toy2d.get("gaussians25"), 20_000
    report = mode_report(data.sample(n, generator=generator(0)), data)
    inside = 1 - math.exp(-8)
    assert report.covered == report.modes == 25
    assert abs(report.within - inside) < 4.5 * (inside * (1 - inside) / n) ** 0.5
    assert abs(2 * n * report.kl - 24) < 4.5 * 48**0.5 and report.kl_by_chance == 24 / (2 * n)


def test_a_sampler_without_some_modes_has_the_kl_of_the_others():
    """Uniform over m of 25 modes: KL(model ‖ data) = ln(25/m), finite, where the other direction is infinite."""
    data = toy2d.get("gaussians25")
    report = mode_report(data.modes[:10].repeat(100, 1), data)
    assert report.covered == 10 and report.kl == pytest.approx(math.log(2.5), abs=1e-6) and report.within == 1


def test_frequencies_are_compared_with_the_weights():
    data = GaussianMixture([0.7, 0.2, 0.1], [[-5.0, 0.0], [0.0, 0.0], [5.0, 0.0]], 0.3)
    drawn = data.modes.repeat_interleave(torch.tensor([5, 4, 1]), 0)
    wanted = 0.5 * math.log(0.5 / 0.7) + 0.4 * math.log(0.4 / 0.2) + 0.1 * math.log(0.1 / 0.1)
    assert mode_report(drawn, data).kl == pytest.approx(wanted, abs=1e-6)
    assert mode_report(data.sample(50_000, generator=generator(1)), data).kl < 2e-4


def test_a_mode_needs_a_fifth_of_its_expected_share():
    data = GaussianMixture([0.5, 0.5], [[-5.0], [5.0]], 0.3)
    for few, covered in ((99, 1), (100, 2)):  # the threshold is 0.2 · 1000 · ½, times P(|ε| ≤ 4) = 0.99994
        drawn = data.modes.repeat_interleave(torch.tensor([1000 - few, few]), 0)
        assert mode_report(drawn, data).covered == covered


def test_points_off_the_modes_are_not_within_and_do_not_cover():
    data = toy2d.get("gaussians8")
    off = data.modes + torch.tensor([0.0, 4.01 * 0.1])
    report = mode_report(torch.cat([off, data.modes + torch.tensor([0.0, 3.99 * 0.1])]), data)
    assert report.within == 0.5 and report.covered == 8 and report.kl == pytest.approx(0, abs=1e-6)
    assert mode_report(off, data).covered == 0


def test_each_mode_is_measured_in_its_own_width():
    """Between a narrow and a wide mode the nearest centre is not always the nearest mode."""
    data = GaussianMixture([0.2, 0.8], [[0.0, 0.0], [4.0, 0.0]], [0.1, 1.0])
    report = mode_report(torch.tensor([[1.0, 0.0]]), data)
    assert report.within == 1 and report.covered == 1 and report.kl == pytest.approx(math.log(1 / 0.8), abs=1e-6)


@pytest.mark.parametrize("d", [1, 2, 12, 24])
def test_a_perfect_sampler_covers_its_modes_in_any_dimension(d):
    """In 12 dimensions only 0.81 of a Gaussian lies within 4σ, in 24 only 0.11: coverage counts on that."""
    data = GaussianMixture([0.5, 0.5], [[-9.0] * d, [9.0] * d], 1.0)
    report = mode_report(data.sample(4000, generator=generator(2)), data)
    inside = float(torch.distributions.Chi2(torch.tensor(float(d))).cdf(torch.tensor(16.0)))
    assert report.covered == 2 and abs(report.within - inside) < 4.5 * (inside * (1 - inside) / 4000) ** 0.5 + 1e-6


def test_mixtures_on_the_line_have_modes_too():
    data = Mixture1D()
    report = mode_report(data.sample(20_000, generator=generator(3)), data)
    assert report.covered == report.modes == 3 and report.within > 0.9995 and report.kl < 1e-3


def test_the_report_reads_as_a_sentence():
    report = ModeReport(24, 25, 0.01234, 0.98765, 1000)
    assert str(report) == "24 of 25 modes, mode KL 0.0123 nats (by chance 0.0120), 98.77 % within 4σ"
    assert "within" not in str(ModeReport(1000, 1000, 0.07, None, 26_000))


def stack(labels: torch.Tensor) -> torch.Tensor:
    """Images (n, 3, 2, 5) whose planes carry their digit as the position of the one bright pixel."""
    digits = torch.stack([labels // 100, labels // 10 % 10, labels % 10], 1)
    return torch.nn.functional.one_hot(digits, 10).float().reshape(-1, 3, 2, 5)


def test_stacked_digits_are_read_plane_by_plane():
    report = stacked_mnist_modes(stack(torch.arange(1000)), lambda x: 9 * x.flatten(1))
    assert report.covered == report.modes == 1000 and report.kl == pytest.approx(0, abs=1e-6) and report.within is None
    lame = stacked_mnist_modes(stack(torch.arange(250)).repeat(4, 1, 1, 1), lambda x: 9 * x.flatten(1))
    assert lame.covered == 250 and lame.kl == pytest.approx(math.log(4), abs=1e-5) and lame.samples == 1000


def test_a_perfect_sampler_misses_as_many_stacked_modes_as_chance_says():
    """With n = 2000, each of 1000 modes is missed with probability (1 − 1/1000)²⁰⁰⁰: 135 ± 10."""
    labels = torch.randint(1000, (2000,), generator=generator(4))
    missed = 1000 - stacked_mnist_modes(stack(labels), lambda x: 9 * x.flatten(1)).covered
    assert abs(missed - 1000 * 0.999**2000) < 4.5 * 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mode_report(torch.zeros(5, 2), toy2d.get("swiss_roll")), "data must be a mixture .*; got SwissRoll"),
        (lambda: mode_report(torch.zeros(5, 3), toy2d.get("gaussians8")), r"x must have shape \(n, 2\); got \(5, 3\)"),
        (lambda: mode_report(torch.zeros(5, 1), Mixture1D()), r"x must have shape \(n\)"),
        (lambda: mode_report(torch.zeros(0, 2), toy2d.get("gaussians8")), "n at least 1"),
        (lambda: mode_report(torch.full((5, 2), math.nan), toy2d.get("gaussians8")), "x must be finite; 5 of 5"),
        (lambda: stacked_mnist_modes(torch.zeros(5, 1, 9, 9), torch.nn.Flatten()), r"images must have shape \(n, 3, h, w\)"),
        (lambda: stacked_mnist_modes(torch.zeros(5, 3, 3, 3), torch.nn.Flatten()), "10 digits apart; got 9 classes"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
