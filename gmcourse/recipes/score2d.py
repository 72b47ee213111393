"""Recipes of chapter 5 in the plane: one small net with Fourier features, preconditioned, weighted for likelihood."""

from collections.abc import Sequence
from functools import partial

from gmcourse.diffusion.score import ScoreModel
from gmcourse.diffusion.sde import VP
from gmcourse.fit import cosine
from gmcourse.nets.denoiser import Denoiser
from gmcourse.nets.embedding import SinusoidalTime
from gmcourse.recipes.measures import gap_to_truth
from gmcourse.recipes.recipe import Recipe

_FIT = {"batch_size": 512, "lr": 3e-3, "schedule": cosine(0.05), "clip": 5.0, "ema": 0.995}

# name: standard deviation of the data, spread of the Fourier frequencies, steps
DATA: dict[str, tuple[float, float, int]] = {
    "gaussians25": (1.42, 5.0, 7000),
    "swiss_roll": (0.91, 3.0, 6000),
    "two_moons": (0.8, 3.0, 3000),
}


def score_model(data_scale: float = 1.0, feature_scale: float = 5.0, hidden: Sequence[int] = (128, 128, 128)) -> ScoreModel:
    """A score model of the plane under VP."""
    net = Denoiser(2, hidden, features=32, feature_scale=feature_scale, time=SinusoidalTime(64, 20.0))
    settings = {"parameterization": "edm", "data_scale": data_scale, "tolerance": 1e-4, "t_min": 5e-4}
    return ScoreModel(net, VP(), event_shape=(2,), **settings)


RECIPES = tuple(
    Recipe(
        f"score_{data}",
        f"score model of {data.replace('_', ' ')} under VP",
        partial(score_model, data_scale, feature_scale),
        data,
        gap_to_truth,
        {**_FIT, "steps": steps},
        source="Karras et al. 2022, Table 1; weights as LSGM Table 1",
        family="diffusion",
    )
    for data, (data_scale, feature_scale, steps) in DATA.items()
)
