"""Recipes of chapter 5, images: one U-Net on digits, clothes and emoji, told the class or not; the same at full size."""

from functools import partial

from gmcourse.data.images import SHAPES
from gmcourse.diffusion.ddpm import DDPM
from gmcourse.diffusion.schedule import DiscreteDiffusion, linear_betas
from gmcourse.fit import cosine
from gmcourse.nets.unet import UNet
from gmcourse.recipes.judged import denoised
from gmcourse.recipes.recipe import Recipe

_FIT = {"batch_size": 64, "lr": 1.5e-3, "schedule": cosine(0.05), "ema": 0.998, "checkpoint_every": 100}
_CLASSES = 10  # of each of them


def image_ddpm(data: str, **net) -> DDPM:
    """Ho et al.'s chain of 1000 steps, seen through v: ε alone is poor where there is little else (chapter 5). Samples by
    50 steps of DDIM."""
    shape = SHAPES[data]
    settings = {"parameterization": "v", "levels": 256, "variance": "small", "steps": 50, "eta": 0.0, "classes": _CLASSES}
    chain = DiscreteDiffusion(linear_betas())
    return DDPM(UNet(shape, context=_CLASSES, **net), chain, event_shape=shape, **settings)


def _small(data: str, steps: int, **net) -> Recipe:
    net = {"width": 32, "multipliers": (1, 2), "patch": 2, **net}
    summary = f"DDPM of {data.replace('_', ' ')}, patches of 2 × 2, told the class in nine cases of ten"
    settings = {**_FIT, "steps": steps}
    model = partial(image_ddpm, data, **net)
    measure = partial(denoised, data)
    return Recipe(f"ddpm_{data}", summary, model, data, measure, settings, labelled=True, family="diffusion")


RECIPES = (
    _small("mnist", 1500),
    _small("fashion_mnist", 1800),
    _small("emoji", 1800),
    Recipe(
        "ddpm-fashion",
        "DDPM of all 60 000 clothes, full size: a GPU's work",
        partial(image_ddpm, "fashion_mnist", width=64, multipliers=(1, 2, 2), blocks=2, dropout=0.1),
        "fashion_mnist_full",
        partial(denoised, "fashion_mnist"),
        {**_FIT, "steps": 40_000, "batch_size": 256, "lr": 5e-4, "ema": 0.9995, "checkpoint_every": 1000},
        labelled=True,
        source="Ho et al. 2020, a quarter of their width, in as many steps as 170 epochs",
    ),
)
