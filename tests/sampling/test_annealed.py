"""Annealed Langevin on mixtures, whose blurred scores are known exactly."""

import pytest
import torch

from gmcourse.data.mixtures import GaussianMixture
from gmcourse.sampling import ULA, AnnealedLangevin

DATA = GaussianMixture([0.8, 0.2], [[-3.0, 0.0], [3.0, 0.0]], 0.3)
SIGMAS = torch.logspace(1, -1, 20, dtype=torch.float64)  # 10 … 0.1


def score(x, sigma):
    return DATA.diffused(1.0, sigma).score(x)


def start(n):
    return 10 * torch.randn(n, 2, generator=torch.Generator().manual_seed(0))


def test_annealing_finds_the_weights_of_far_modes_and_plain_langevin_does_not():
    n, generator = 2000, torch.Generator().manual_seed(1)
    annealed = AnnealedLangevin(score, SIGMAS, step=0.01, each=20)
    plain = ULA(score=DATA.score, step=0.01)
    ends = annealed.run(start(n), generator=generator), plain.run(start(n), annealed.steps, generator=generator)
    left = [float((x[:, 0] < 0).float().mean()) for x in ends]
    assert left[0] == pytest.approx(0.8, abs=4.5 * (0.16 / n) ** 0.5 + 0.01)
    assert left[1] == pytest.approx(0.5, abs=0.1)


def test_denoising_takes_the_last_blur_out():
    """Variance of x + σ² s(x, σ) where x ~ N(0, 1 + σ²), s = −x/(1 + σ²): 1/(1 + σ²); ULA's own bias comes on top."""

    def blurred(x, sigma):
        return -x / (1 + sigma**2)

    options, x = {"step": 0.2, "each": 100}, torch.randn(40_000, generator=torch.Generator().manual_seed(0))
    found = {}
    for denoise in (True, False):
        sampler = AnnealedLangevin(blurred, [0.7], denoise=denoise, **options)
        found[denoise] = sampler.run(x, generator=torch.Generator().manual_seed(1))
    wide = 1.49 / (1 - 0.2 / 1.49 / 4)
    assert float(found[False].var()) == pytest.approx(wide, rel=0.03)
    assert torch.allclose(found[True], found[False] / 1.49, atol=1e-6)


def test_steps_grow_with_the_square_of_the_level():
    """Song & Ermon: η_i = η σ_i²/σ_L². Under −x/σ² every step contracts by 1 − η/(2σ_L²)."""
    seen = []

    def record(x, sigma):
        seen.append(sigma)
        return -x / sigma**2

    sampler = AnnealedLangevin(record, [4.0, 2.0, 1.0], step=0.5, each=1, denoise=False)
    x = torch.full((20_000,), 100.0)
    assert float(sampler.run(x, generator=torch.Generator().manual_seed(0)).mean()) == pytest.approx(100 * 0.75**3, abs=0.1)
    assert seen == [4.0, 2.0, 1.0] and sampler.steps == 3


def test_diverging_levels_are_reported():
    with pytest.raises(FloatingPointError, match="4 of 4 chains diverged"):
        AnnealedLangevin(lambda x, sigma: -x.pow(3), [100.0, 0.1], step=1.0, each=20).run(torch.full((4,), 5.0))
