"""Recipes of chapter 11, images: four large steps back, by a small U-Net that a latent tells how to draw."""

from collections.abc import Sequence
from functools import partial

import torch

from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.data.images import SHAPES
from gmcourse.diffusion.schedule import DiscreteDiffusion, betas_of_levels, vp_betas
from gmcourse.fit import cosine
from gmcourse.gan.regularisers import R1, Lazy
from gmcourse.nets.embedding import SinusoidalTime
from gmcourse.nets.styled import Styled
from gmcourse.nets.time_critic import TimeCritic
from gmcourse.nets.unet import UNet
from gmcourse.recipes.judged import generated, stacked
from gmcourse.recipes.recipe import Recipe

STEPS, LATENT, STYLE = 4, 32, 64
SMALL, LARGE = (24, (12, 32, 64, 64)), (32, (16, 32, 64, 128))  # width of the generator, channels of the discriminator
LEVELS = (0.25, 0.8, 2.5, 100.0)  # σ/α of the emoji's chain: (6.15) has 0.95, 3.4, 17, 150, too far for the last step
PICTURES = {"mnist": 6000, "fashion_mnist": 3000}  # steps
_FIT = {
    "batch_size": 32,
    "lr": {"discriminator": 1e-3, "generator": 1e-3},
    "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.9)),
    "schedule": cosine(),
    "ema": {"discriminator": None, "generator": 0.995},
    "checkpoint_every": 200,
}


def image_ddgan(
    data: str,
    width: int,
    critic: Sequence[int],
    *,
    levels: Sequence[float] | None = None,
    gamma: float = 1.0,
    denoising: float = 0.0,
) -> DenoisingDiffusionGAN:
    """A denoising diffusion GAN of four steps, in small; 2 × 2 pixels are one place of the generator's.

    `width` is the generator's, `critic` the channels of the discriminator, `levels` the chain's σ/α, those of thesis (6.15)
    unless given, `gamma` the weight of R1.
    """
    shape, time = SHAPES[data], SinusoidalTime(64)
    net = UNet(shape, width=width, multipliers=(1, 2), attention=(), patch=2, context=STYLE, time=time, places=True)
    chain = DiscreteDiffusion(betas_of_levels(levels) if levels else vp_betas(STEPS))
    return DenoisingDiffusionGAN(
        Styled(net, LATENT, STYLE),
        TimeCritic(shape, critic),
        chain,
        event_shape=shape,
        latent=LATENT,
        regularisers=Lazy(R1(gamma), every=8),
        denoising=denoising,
    )


def _recipe(data: str, sizes: tuple[int, Sequence[int]], measure, source: str, *, net: dict | None = None, **fit) -> Recipe:
    summary = f"denoising diffusion GAN of {data.replace('_', ' ')}, four steps"
    model, source = partial(image_ddgan, data, *sizes, **net or {}), f"{source}, smaller nets"
    return Recipe(f"ddgan_{data}", summary, model, data, measure, _FIT | fit, source=source)


def settling(done: float) -> float:
    """A schedule: rates fall slowly for two fifths of the run, then at once to a quarter, and down to 0 by a cosine.

    At large rates both players learn the coarse things fast, and then run after each other without getting nearer.
    """
    return cosine()(0.8 * done) if done < 0.44 else 0.25 * cosine()((done - 0.4) / 0.6)


LONG = {
    "schedule": settling,
    "steps": 13_000,
    "lr": {"discriminator": 1e-3, "generator": 6e-4},
    "ema": {"discriminator": None, "generator": 0.999},
}
RECIPES = (
    *(_recipe(data, SMALL, partial(generated, data), "thesis 6.3", steps=n) for data, n in PICTURES.items()),
    _recipe(
        "emoji",
        LARGE,
        partial(generated, "emoji"),
        "thesis 6.3, with a denoising loss",
        net={"levels": LEVELS, "gamma": 0.1, "denoising": 100.0},
        steps=12_000,
        lr={"discriminator": 1e-3, "generator": 6e-4},
    ),
    _recipe("stacked_mnist", (48, (24, 48, 96, 96)), stacked, "thesis 6.4.3", **LONG),
)
