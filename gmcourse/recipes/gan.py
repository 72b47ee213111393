"""Recipes of chapter 6, images: a DCGAN on digits and clothes, and a small StyleGAN on digits; none is told the class."""

from functools import partial

import torch

from gmcourse.fit import cosine
from gmcourse.gan.gan import GAN
from gmcourse.gan.regularisers import R1, Lazy
from gmcourse.nets.dcgan import DCCritic, DCGenerator
from gmcourse.nets.style import StyleGenerator
from gmcourse.recipes.judged import generated
from gmcourse.recipes.recipe import Recipe

LATENT = 64
_SHAPE = (1, 28, 28)
_FIT = {"batch_size": 32, "schedule": cosine(), "ema": {"critic": None, "generator": 0.995}, "checkpoint_every": 200}
_DCGAN = {
    **_FIT,
    "steps": 5000,
    "lr": {"critic": 2e-3, "generator": 4e-3},
    "optimizer": partial(torch.optim.Adam, betas=(0.5, 0.99)),
}
_STYLE = {**_FIT, "steps": 8000, "lr": 1e-3, "optimizer": partial(torch.optim.Adam, betas=(0.0, 0.99))}


def dcgan() -> GAN:
    """Radford et al.'s nets without batch normalisation, in the non-saturating game with R1 in one step of eight."""
    penalty = Lazy(R1(gamma=0.5), every=8)
    return GAN(DCGenerator(LATENT, _SHAPE), DCCritic(_SHAPE), event_shape=_SHAPE, latent=LATENT, regularisers=penalty)


def stylegan() -> GAN:
    """Six styled layers; the same game against a critic that sees how much a batch varies. R1 then has in it what each row
    does to the logits of the others."""
    generator, critic = StyleGenerator(_SHAPE, LATENT, width=12), DCCritic(_SHAPE, minibatch_std=True)
    penalty = Lazy(R1(gamma=1.0), every=8)
    return GAN(generator, critic, event_shape=_SHAPE, latent=generator.noise_blocks, regularisers=penalty)


def _dcgan(data: str) -> Recipe:
    summary = f"DCGAN of {data.replace('_', ' ')}, non-saturating with R1"
    source = "nets as Radford et al. 2016, without batch normalisation"
    return Recipe(f"gan_{data}", summary, dcgan, data, partial(generated, data), _DCGAN, source=source, family="GAN")


RECIPES = (
    _dcgan("mnist"),
    _dcgan("fashion_mnist"),
    Recipe(
        "style_mnist",
        "a small StyleGAN of digits, non-saturating with R1",
        stylegan,
        "mnist",
        partial(generated, "mnist"),
        _STYLE,
        source="Karras et al. 2019, six layers of at most 48 channels",
    ),
)
