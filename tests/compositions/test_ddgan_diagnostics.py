"""What is said about the inside of a denoising diffusion GAN, against closed forms."""

import math
import warnings

import pytest
import torch
from torch import nn

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.compositions.ddgan_diagnostics import latent_shares, losses_by_step
from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas

CHAIN = DiscreteDiffusion(vp_betas(4))


class Gaussian(nn.Module):
    """Draws of p(x_0 | x_t) for data N(0, s²): mean α s²/(α² s² + σ²) x_t, variance s² σ²/(α² s² + σ²)."""

    def __init__(self, s=0.5, use=1.0):
        super().__init__()
        self.s, self.use = s, use

    def forward(self, x, t, z):
        bars = CHAIN.alpha_bars[t][:, None].to(x)
        total = bars * self.s**2 + 1 - bars
        return bars.sqrt() * self.s**2 / total * x + self.use * self.s * ((1 - bars) / total).sqrt() * z


def model(use=1.0, judge=lambda before, x, t: 0 * x[:, 0]):
    return DenoisingDiffusionGAN(Gaussian(use=use), judge, CHAIN, event_shape=(2,), latent=2)


def test_shares_are_those_of_the_law_of_total_variance():
    """Of the true posterior of N(0, s²): Var[x_0 | x_t] / s² = (1 − ᾱ)/(ᾱ s² + 1 − ᾱ)."""
    x = 0.5 * torch.randn(20_000, 2, generator=torch.Generator().manual_seed(0))
    found = latent_shares(model(), x, generator=torch.Generator().manual_seed(1))
    bars = CHAIN.alpha_bars.float()
    assert found.sub((1 - bars) / (bars * 0.25 + 1 - bars)).abs().max() < 0.02


def test_a_generator_that_ignores_its_latents_is_warned_of():
    x = torch.randn(100, 2)
    with pytest.warns(UserWarning, match="ignores its latents: z makes 0 % of its variance"):
        latent_shares(model(use=0.0), x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        latent_shares(model(), x)


def test_shares_are_estimated_well_from_few_data():
    """Away from 1 the mean over many batches of twenty data with two draws each is the share of Gaussian data."""
    bars, generator, found = CHAIN.alpha_bars.float(), torch.Generator().manual_seed(2), []
    for _ in range(400):
        x = 0.5 * torch.randn(20, 2, generator=generator)
        found.append(latent_shares(model(), x, draws=2, generator=generator))
    found = torch.stack(found)
    assert ((found >= 0) & (found <= 1)).all()
    assert abs(float(found.mean(0)[0] - ((1 - bars) / (bars * 0.25 + 1 - bars))[0])) < 0.02


def test_one_draw_of_z_or_one_datum_has_no_variance():
    with pytest.raises(ValueError, match="draws must be at least 2; got 1"):
        latent_shares(model(), torch.randn(4, 2), draws=1)
    with pytest.raises(ValueError, match="x must hold at least 2 data; got 1"):
        latent_shares(model(), torch.randn(1, 2))


def test_a_judge_that_knows_nothing_loses_2_ln_2_at_every_step():
    found = losses_by_step(model(), torch.randn(50, 2))
    assert found.shape == (4,) and found.sub(2 * math.log(2)).abs().max() < 1e-6


def test_losses_of_the_best_judge_are_2_ln_2_minus_2_js():
    """Fakes all at 0 but for the posterior's noise, data N(0, s²): at t = 0 the best judge of x_0 = 0 or not never errs."""

    def judge(before, x, t):
        return torch.where(before.abs().sum(1) == 0, -30.0, 30.0)

    class Nothing(nn.Module):
        def forward(self, x, t, z):
            return 0 * x

    dead = DenoisingDiffusionGAN(Nothing(), judge, CHAIN, event_shape=(2,), latent=2)
    found = losses_by_step(dead, torch.randn(50, 2))
    assert found[0] < 1e-6 and (found[1:] > 10).all()
