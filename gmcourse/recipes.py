"""Recipes: name -> model, data and training settings, so that a result can be made again by its name.

>>> from gmcourse import recipes
>>> recipes.get("vae_gaussians25").summary
'VAE with sharpened input layers on 25 Gaussians'
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.data import images, toy2d
from gmcourse.fit import cosine
from gmcourse.metrics.likelihood import likelihood_gap
from gmcourse.model import GenerativeModel
from gmcourse.training.history import History
from gmcourse.vae import VAE, Gaussian, LatentGrid, conv_hierarchy, conv_vae, elbo, iwae_bound, linear_beta, mlp_vae


@dataclass(frozen=True)
class Recipe:
    """All that it takes to train a model again.

    Args:
        model: builds it, untrained.
        data: name of a 2-D density (`data.toy2d`) or of an image set (`data.images`).
        fit: keyword arguments of `fit`.
        source: where the settings come from.
    """

    name: str
    summary: str
    model: Callable[[], GenerativeModel]
    data: str
    fit: Mapping = field(default_factory=dict)
    source: str = "this course"

    def build(self, seed: int = 0) -> GenerativeModel:
        """The untrained model; the same seed gives the same initial weights, and the caller's random state is left alone."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.model()

    def load_data(self, split: str = "train") -> Tensor | Distribution:
        """The data: a Distribution, or images (n, c, h, w) in [-1, 1]."""
        return toy2d.get(self.data) if self.data in toy2d.NAMES else images.load_images(self.data, split)[0]

    @torch.no_grad()
    def evaluate(self, model: GenerativeModel) -> dict[str, float]:
        """Test numbers in nats: the gap to the true density in 2-D; on images ELBO and IWAE bound of the first 500."""
        data = self.load_data("test")
        if isinstance(data, Distribution):
            by_quadrature = isinstance(model, VAE) and model.prior.event_shape.numel() <= 2
            gap = likelihood_gap(LatentGrid(model).log_prob if by_quadrature else model, data, n=2000)
            return {"gap": gap.value, "gap_stderr": gap.stderr}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            x = data[:500].to(next(model.parameters()).device)
            terms, bound = elbo(model, x, samples=5), iwae_bound(model, x, 50, chunk=2500)
        numbers = {"elbo": terms.value, "reconstruction": terms.reconstruction, "kl": terms.kl, "iwae50": bound}
        return {name: float(value.mean()) for name, value in numbers.items()}

    def card(self, model: GenerativeModel, history: History, seed: int) -> dict:
        """What a checkpoint of this recipe says of itself: settings, training, and the numbers of `evaluate`."""
        return {
            "recipe": self.name,
            "summary": self.summary,
            "source": self.source,
            "seed": seed,
            "data": self.data,
            "training": {"steps": history.steps, "seconds": round(history.seconds, 1)},
            "metrics": {key: round(value, 3) for key, value in self.evaluate(model).items()},
            "parameters": sum(p.numel() for p in model.parameters()),
        }


_LIVE = {"steps": 6000, "batch_size": 256, "lr": 2e-3, "schedule": cosine()}
BETAS = (0.1, 0.5, 1.0, 4.0, 16.0)
_IMAGES = {"batch_size": 64, "lr": 1e-3, "schedule": cosine(0.02), "clip": 100.0, "checkpoint_every": 250}

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("vae_gaussians25_plain", "Plain MLP VAE on 25 Gaussians", mlp_vae, "gaussians25", {**_LIVE, "steps": 5000}),
        Recipe(
            "vae_gaussians25_slow",
            "VAE of the same depth with ordinary input layers, the control",
            lambda: mlp_vae(hidden=(128, 128, 128)),
            "gaussians25",
            _LIVE,
        ),
        Recipe(
            "vae_gaussians25",
            "VAE with sharpened input layers on 25 Gaussians",
            lambda: mlp_vae(hidden=(128, 128, 128), input_scale=4.0),
            "gaussians25",
            _LIVE,
        ),
        Recipe(
            "vae_mnist",
            "Convolutional VAE, 16 latents, on 4000 MNIST digits",
            lambda: conv_vae(latent=16, likelihood=Gaussian(0.3, "global")),
            "mnist",
            {**_IMAGES, "steps": 1500},
        ),
        Recipe(
            "vae_fashion_mnist",
            "Convolutional VAE, 16 latents, on 10000 Fashion-MNIST images",
            lambda: conv_vae(latent=16, likelihood=Gaussian(0.3, "global")),
            "fashion_mnist",
            {**_IMAGES, "steps": 3000},
        ),
        Recipe(
            "hvae_mnist",
            "Hierarchical VAE, 3 groups top-down, on 4000 MNIST digits",
            lambda: conv_hierarchy(width=16, beta=linear_beta(500)),
            "mnist",
            {**_IMAGES, "steps": 1500},
        ),
        Recipe(
            "hvae_fashion_mnist",
            "Hierarchical VAE, 3 groups top-down, on 10000 Fashion-MNIST images",
            lambda: conv_hierarchy(width=16, beta=linear_beta(500)),
            "fashion_mnist",
            {**_IMAGES, "steps": 1500},
        ),
        *(
            Recipe(
                f"vae_digits_beta{beta:g}",
                f"VAE with 2 latents and β = {beta:g} on 8×8 digits",
                lambda beta=beta: mlp_vae((1, 8, 8), hidden=(128, 128), likelihood=Gaussian(0.35), beta=beta),
                "digits",
                {"steps": 4000, "batch_size": 128, "lr": 2e-3, "schedule": cosine()},
            )
            for beta in BETAS
        ),
    )
}


def get(name: str) -> Recipe:
    """The recipe of that name; ValueError lists the known ones."""
    if name not in RECIPES:
        raise ValueError(f"recipe must be one of {', '.join(sorted(RECIPES))}; got {name!r}")
    return RECIPES[name]
