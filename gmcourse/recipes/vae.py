"""Recipes of chapter 2, variational auto-encoders."""

from functools import partial

from gmcourse.fit import cosine
from gmcourse.recipes.measures import bounds, gap_to_truth
from gmcourse.recipes.recipe import Recipe
from gmcourse.vae import Gaussian, conv_hierarchy, conv_vae, linear_beta, mlp_vae

LIVE = {"steps": 6000, "batch_size": 256, "lr": 2e-3, "schedule": cosine()}
BETAS = (0.1, 0.5, 1.0, 4.0, 16.0)
_IMAGES = {"batch_size": 64, "lr": 1e-3, "schedule": cosine(0.02), "clip": 100.0, "checkpoint_every": 250}
SHARPENED = partial(mlp_vae, hidden=(128, 128, 128), input_scale=4.0)

RECIPES = (
    Recipe(
        "vae_gaussians25_plain",
        "Plain MLP VAE on 25 Gaussians",
        mlp_vae,
        "gaussians25",
        gap_to_truth,
        {**LIVE, "steps": 5000},
    ),
    Recipe(
        "vae_gaussians25_slow",
        "VAE of the same depth with ordinary input layers, the control",
        lambda: mlp_vae(hidden=(128, 128, 128)),
        "gaussians25",
        gap_to_truth,
        LIVE,
    ),
    Recipe(
        "vae_gaussians25",
        "VAE with sharpened input layers on 25 Gaussians",
        SHARPENED,
        "gaussians25",
        gap_to_truth,
        LIVE,
        family="VAE",
    ),
    Recipe(
        "vae_swiss_roll",
        "VAE with sharpened input layers on the Swiss roll",
        SHARPENED,
        "swiss_roll",
        gap_to_truth,
        LIVE,
        family="VAE",
    ),
    Recipe(
        "vae_mnist",
        "Convolutional VAE, 16 latents, on 4000 MNIST digits",
        lambda: conv_vae(latent=16, likelihood=Gaussian(0.3, "global")),
        "mnist",
        bounds,
        {**_IMAGES, "steps": 1500},
    ),
    Recipe(
        "vae_fashion_mnist",
        "Convolutional VAE, 16 latents, on 10000 Fashion-MNIST images",
        lambda: conv_vae(latent=16, likelihood=Gaussian(0.3, "global")),
        "fashion_mnist",
        bounds,
        {**_IMAGES, "steps": 3000},
        family="VAE",
    ),
    Recipe(
        "hvae_mnist",
        "Hierarchical VAE, 3 groups top-down, on 4000 MNIST digits",
        lambda: conv_hierarchy(width=16, beta=linear_beta(500)),
        "mnist",
        bounds,
        {**_IMAGES, "steps": 1500},
    ),
    Recipe(
        "hvae_fashion_mnist",
        "Hierarchical VAE, 3 groups top-down, on 10000 Fashion-MNIST images",
        lambda: conv_hierarchy(width=16, beta=linear_beta(500)),
        "fashion_mnist",
        bounds,
        {**_IMAGES, "steps": 1500},
    ),
    *(
        Recipe(
            f"vae_digits_beta{beta:g}",
            f"VAE with 2 latents and β = {beta:g} on 8×8 digits",
            lambda beta=beta: mlp_vae((1, 8, 8), hidden=(128, 128), likelihood=Gaussian(0.35), beta=beta),
            "digits",
            bounds,
            {"steps": 4000, "batch_size": 128, "lr": 2e-3, "schedule": cosine()},
        )
        for beta in BETAS
    ),
)
