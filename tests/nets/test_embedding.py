"""Time embeddings: their formulas, written out in plain numbers, and what they can tell apart."""

import math

import pytest
import torch

from gmcourse.nets.embedding import AxisWaves, FourierTime, SinusoidalTime, times_for


def test_waves_are_of_each_coordinate_by_itself_and_have_the_period_that_is_asked_for():
    waves, x = AxisWaves(2, [math.pi / 2, math.pi]), torch.randn(50, 2)
    moved = waves(x + torch.tensor([4.0, 0.0]))[:, 2:]
    assert moved.sub(waves(x)[:, 2:]).abs().max() < 1e-5
    half = waves(x + torch.tensor([1.0, 0.0]))[:, 2:]
    changed = half.sub(waves(x)[:, 2:]).abs().amax(0) > 0.1
    assert changed.tolist() == [True, True, False, False] * 2


def test_sinusoidal_times_are_the_waves_of_the_paper():
    found = SinusoidalTime(8).double()(torch.tensor([0, 7]))
    for row, t in zip(found.tolist(), (0, 7), strict=True):
        frequencies = [10_000 ** (-k / 3) for k in range(4)]
        waves = [math.sin(t * f) for f in frequencies] + [math.cos(t * f) for f in frequencies]
        assert row == pytest.approx(waves, abs=1e-6)


def test_times_of_diffusions_are_spread_over_those_of_a_chain():
    embedding = SinusoidalTime(16)
    assert torch.allclose(embedding(torch.tensor([0.25, 1.0])), embedding(torch.tensor([250, 1000])), atol=1e-4)
    assert torch.allclose(SinusoidalTime(16, scale=4.0)(torch.tensor([0.5])), embedding(torch.tensor([2])), atol=1e-6)


def test_every_time_of_a_long_chain_has_its_own_sinusoidal_embedding():
    waves = SinusoidalTime(64)(torch.arange(1000)).double()
    assert torch.pdist(waves).min() > 0.5


def test_fourier_times_are_the_waves_of_their_frequencies():
    torch.manual_seed(0)
    embedding = FourierTime(6, scale=3.0).double()
    (row,) = embedding(torch.tensor([0.3], dtype=torch.float64)).tolist()
    phases = [2 * math.pi * 0.3 * w for w in embedding.frequencies.tolist()]
    assert row == pytest.approx([math.sin(p) for p in phases] + [math.cos(p) for p in phases])


def test_fourier_frequencies_have_their_scale_and_travel_with_the_weights_untrained():
    torch.manual_seed(0)
    embedding = FourierTime(20_000, scale=16.0)
    assert embedding.frequencies.std().item() == pytest.approx(16.0, abs=5 * 16 / 20_000**0.5)
    assert not list(embedding.parameters()) and list(embedding.state_dict()) == ["frequencies"]


def test_the_kernel_of_fourier_times_is_gaussian():
    """Inner products estimate exp(−½ (2π scale Δ)²): times nearer than about 1/(2π scale) look alike (Bochner)."""
    torch.manual_seed(0)
    waves = FourierTime(40_000, scale=2.0)(torch.tensor([0.4, 0.45, 0.55]))
    found = (waves @ waves[0]) / 20_000
    truth = torch.exp(-0.5 * (2 * math.pi * 2.0 * torch.tensor([0.0, 0.05, 0.15])).square())
    assert torch.allclose(found, truth, atol=5 * 0.5**0.5 / 20_000**0.5)


def test_one_time_for_all_is_a_time_for_each():
    x = torch.zeros(3, 2)
    assert torch.equal(times_for(torch.tensor(0.2), x), torch.full((3,), 0.2))
    assert times_for(4, x).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda: SinusoidalTime(7), "outputs must be even and at least 4; got 7"),
        (lambda: SinusoidalTime(2), "outputs must be even and at least 4; got 2"),
        (lambda: SinusoidalTime(8, scale=0.0), "scale must be positive"),
        (lambda: FourierTime(7), "outputs must be even and at least 2; got 7"),
        (lambda: FourierTime(8, scale=-1.0), "scale must be positive"),
        (lambda: FourierTime(8)(torch.arange(3)), "t must be a floating-point time; got torch.int64"),
        (lambda: SinusoidalTime(8)(torch.zeros(3, 1)), r"t must have shape \(n,\); got \(3, 1\)"),
        (lambda: times_for(torch.zeros(2), torch.zeros(3, 2)), r"t must have shape \(3,\), .* got \(2,\)"),
    ],
)
def test_bad_input_is_named(call, complaint):
    with pytest.raises(ValueError, match=complaint):
        call()
