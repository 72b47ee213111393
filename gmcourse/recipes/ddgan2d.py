"""Recipes of chapter 11 in the plane: four large steps back on 25 Gaussians; Table 6.2 in small, one change at a time.

All see coordinates through two slow waves, and a generator's guess of x_0 (or of x_{t−1}) starts as the best linear one.
Noise levels rise by like factors, but for the last, 8, where the modes are forgotten; those of the thesis, (6.15), are made
for data whose detail is not a seventeenth of its spread: their last step starts from noise as wide as the modes are apart.
"""

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN, Parameterization
from gmcourse.compositions.diffused_critic import DiffusedCritic
from gmcourse.diffusion.schedule import DiscreteDiffusion, betas_of_levels
from gmcourse.gan.gan import GAN
from gmcourse.gan.regularisers import R1
from gmcourse.nets.embedding import AxisWaves
from gmcourse.nets.mlp import MLP
from gmcourse.nets.plane_pair import LEAKY, PointCritic, PointGenerator
from gmcourse.nets.preconditioned import Preconditioned
from gmcourse.recipes.gan2d import late
from gmcourse.recipes.measures import modes
from gmcourse.recipes.recipe import Recipe

SPREAD = 1.42  # of 25 Gaussians, each coordinate
LATENT, HIDDEN = 2, (128, 128, 128)
FREQUENCIES = (math.pi / 2, math.pi)
PENALTY = R1(3e-4)
LEVELS = {1: (8.0,), 2: (0.5, 8.0), 4: (0.1, 0.35, 1.2, 8.0), 8: (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 8.0)}

_FIT = {
    "batch_size": 512,
    "lr": {"discriminator": 2e-3, "generator": 1e-3},
    "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.9)),
    "schedule": late,
    "ema": {"discriminator": None, "generator": 0.999},
}
SHORT, LONG = 3000, 20_000
_GAN = {"lr": {"critic": 2e-3, "generator": 1e-3}, "ema": {"critic": None, "generator": 0.999}}


def plane_ddgan(
    levels: Sequence[float] = LEVELS[4], latent: int = LATENT, parameterization: Parameterization = "x0", **settings
) -> DenoisingDiffusionGAN:
    """A denoising diffusion GAN of points at these noise levels; `settings` go to the model."""
    chain = DiscreteDiffusion(betas_of_levels(levels))
    generator = PointGenerator((2,), latent, HIDDEN, frequencies=FREQUENCIES)
    critic = PointCritic((2,), HIDDEN, frequencies=FREQUENCIES)
    if parameterization != "noise":  # the factors are those of a guess of x_0
        generator = Preconditioned(generator, chain.alpha_bars, SPREAD)
    settings = {"regularisers": PENALTY, "parameterization": parameterization, **settings}
    return DenoisingDiffusionGAN(generator, critic, chain, event_shape=(2,), latent=latent, **settings)


def one_shot() -> GAN:
    """A plain map from noise, with no guess to start from, and a critic that looks through the chain of `plane_ddgan`."""

    def net(inputs: int, outputs: int | tuple) -> nn.Sequential:
        waves = AxisWaves(inputs, FREQUENCIES)
        return nn.Sequential(waves, MLP(waves.outputs, outputs, HIDDEN, activation=LEAKY))

    critic = DiffusedCritic(net(2, ()), DiscreteDiffusion(betas_of_levels(LEVELS[4])))
    return GAN(net(2 + LATENT, 2), critic, event_shape=(2,), latent=2 + LATENT, regularisers=PENALTY)


# what is changed: in words, the model, settings of fit
VARIANTS: dict[str, tuple] = {
    **{f"t{steps}": (f"T = {steps}", partial(plane_ddgan, levels), {}) for steps, levels in LEVELS.items()},
    "one_shot": ("one step, the critic's data augmented by diffusion", one_shot, _GAN),
    "direct": ("T = 4, the generator says x_{t−1}", partial(plane_ddgan, parameterization="direct"), {}),
    "noise": ("T = 4, the generator says the noise", partial(plane_ddgan, parameterization="noise"), {}),
    "no_latent": ("T = 4, without z", partial(plane_ddgan, latent=0), {}),
}


def _variant(kind: str) -> Recipe:
    told, model, settings = VARIANTS[kind]
    fit = {**_FIT, "steps": SHORT, **settings}
    source = "thesis Table 6.2, on points"
    return Recipe(
        f"ddgan_{kind}_gaussians25", f"DDGAN of 25 Gaussians: {told}", model, "gaussians25", modes, fit, source=source
    )


RECIPES = (
    Recipe(
        "ddgan_gaussians25",
        "denoising diffusion GAN of 25 Gaussians, four steps",
        plane_ddgan,
        "gaussians25",
        modes,
        {**_FIT, "steps": LONG},
        source="thesis 6.4.3, smaller nets, other noise levels",
        family="DDGAN",
    ),
    *map(_variant, VARIANTS),
)
