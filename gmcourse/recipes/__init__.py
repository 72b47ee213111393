"""Recipes: name -> model, data and training settings, so that a result can be made again by its name.

>>> from gmcourse import recipes
>>> recipes.get("vae_gaussians25").summary
'VAE with sharpened input layers on 25 Gaussians'
"""

from gmcourse.recipes import (
    ddgan,
    ddgan2d,
    diffusion,
    ebm,
    features,
    flows,
    flows2d,
    gan,
    gan2d,
    latent_flow,
    score2d,
    short_run,
    tilted,
    vae,
)
from gmcourse.recipes.recipe import Recipe
from gmcourse.recipes.vae import BETAS

__all__ = ["BETAS", "RECIPES", "Recipe", "get"]

CHAPTERS = (
    features,
    vae,
    flows2d,
    flows,
    ebm,
    score2d,
    diffusion,
    gan2d,
    gan,
    latent_flow,
    tilted,
    short_run,
    ddgan2d,
    ddgan,
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for chapter in CHAPTERS for recipe in chapter.RECIPES}


def get(name: str) -> Recipe:
    """The recipe of that name; ValueError lists the known ones."""
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(sorted(RECIPES))}; got {name!r}")
    return RECIPES[name]
