"""Recipes of chapter 3, image flows: Glow and a plain RealNVP with as many parameters, on the same 32×32 colour images;
and a RealNVP of clothes."""

from gmcourse.fit import cosine
from gmcourse.flows.elementwise import Affine
from gmcourse.flows.glow import glow, image_real_nvp
from gmcourse.recipes.measures import bits_per_dim
from gmcourse.recipes.recipe import Recipe

_FIT = {"steps": 1500, "batch_size": 32, "lr": 3e-3, "schedule": cosine(0.05), "clip": 100.0, "checkpoint_every": 100}
_SHAPE = (3, 32, 32)

RECIPES = (
    Recipe(
        "glow_emoji",
        "Glow, 3 levels of 4 steps, couplings scaled by an exponential, on 1721 emoji",
        lambda: glow(_SHAPE, levels=3, depth=4, width=28, transformer=Affine),
        "emoji",
        bits_per_dim,
        _FIT,
        source="Kingma and Dhariwal 2018, made small",
    ),
    Recipe(
        "real_nvp_emoji",
        "RealNVP, 3 levels of 2 checkerboard and 2 channel couplings, as many parameters as glow_emoji",
        lambda: image_real_nvp(_SHAPE, levels=3, depth=2, width=36),
        "emoji",
        bits_per_dim,
        _FIT,
        source="Dinh et al. 2017, made small",
    ),
    Recipe(
        "real_nvp_fashion_mnist",
        "RealNVP, 2 levels of 2 checkerboard and 2 channel couplings, on 10000 Fashion-MNIST images",
        lambda: image_real_nvp((1, 28, 28), levels=2, depth=2, width=32),
        "fashion_mnist",
        bits_per_dim,
        _FIT,
        source="Dinh et al. 2017, made small",
        family="flow",
    ),
)
