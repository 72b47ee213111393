"""Recipes of chapter 11, images: four large steps back, by a small U-Net that a latent tells how to draw."""

from functools import partial

import torch

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.diffusion.schedule import DiscreteDiffusion, vp_betas
from gmcourse.fit import cosine
from gmcourse.gan.regularisers import R1, Lazy
from gmcourse.nets.embedding import SinusoidalTime
from gmcourse.nets.styled import Styled
from gmcourse.nets.time_critic import TimeCritic
from gmcourse.nets.unet import UNet
from gmcourse.recipes.judged import generated, stacked
from gmcourse.recipes.recipe import Recipe

STEPS, LATENT, STYLE = 4, 32, 64
SHAPES = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "emoji": (3, 32, 32), "stacked_mnist": (3, 28, 28)}
PICTURES = {"mnist": 6000, "fashion_mnist": 6000, "emoji": 6000}  # steps
_FIT = {
    "batch_size": 32,
    "lr": {"discriminator": 1e-3, "generator": 1e-3},
    "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.9)),
    "schedule": cosine(),
    "ema": {"discriminator": None, "generator": 0.995},
    "checkpoint_every": 200,
}


def image_ddgan(data: str) -> DenoisingDiffusionGAN:
    """A denoising diffusion GAN of four steps, thesis (6.15), in small; 2 × 2 pixels are one place of the generator's."""
    shape = SHAPES[data]
    net = UNet(shape, width=24, multipliers=(1, 2), attention=(), patch=2, context=STYLE, time=SinusoidalTime(64))
    generator, critic = Styled(net, LATENT, STYLE), TimeCritic(shape, (12, 32, 64, 64))
    chain, penalty = DiscreteDiffusion(vp_betas(STEPS)), Lazy(R1(0.05), every=8)
    return DenoisingDiffusionGAN(generator, critic, chain, event_shape=shape, latent=LATENT, regularisers=penalty)


def _recipe(data: str, steps: int, measure) -> Recipe:
    summary = f"denoising diffusion GAN of {data.replace('_', ' ')}, four steps"
    source = "thesis 6.3, smaller nets"
    return Recipe(
        f"ddgan_{data}", summary, partial(image_ddgan, data), data, measure, _FIT | {"steps": steps}, source=source
    )


RECIPES = (
    *(_recipe(data, steps, partial(generated, data)) for data, steps in PICTURES.items()),
    _recipe("stacked_mnist", 6000, stacked),
)
