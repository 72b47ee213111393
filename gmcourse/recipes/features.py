"""Recipes of the classifiers whose features measure samples of images (chapter 1)."""

from gmcourse.classifier import conv_classifier
from gmcourse.data.images import SHAPES, class_names
from gmcourse.fit import cosine
from gmcourse.recipes.measures import accuracy
from gmcourse.recipes.recipe import Recipe

NET = {"batch_size": 64, "lr": 2e-3, "schedule": cosine(0.05), "checkpoint_every": 250}


def _features(data: str, steps: int, *, width: int = 32, dropout: float = 0.2) -> Recipe:
    return Recipe(
        f"features_{data}",
        f"Classifier whose features measure samples of {data}",
        lambda: conv_classifier(SHAPES[data], len(class_names(data)), width=width, dropout=dropout),
        data,
        accuracy,
        NET | {"steps": steps},
        labelled=True,
    )


def _perceptual(data: str) -> Recipe:
    return Recipe(
        f"perceptual_{data}",
        f"Classifier whose activations compare images of {data} in training; another than the one that judges",
        lambda: conv_classifier(SHAPES[data], len(class_names(data)), channels=16),
        data,
        accuracy,
        NET | {"steps": 600},
        labelled=True,
    )


JUDGES = (
    _features("mnist", 1200),
    _features("fashion_mnist", 2400, width=64, dropout=0.4),
    _features("emoji", 1000, width=64, dropout=0.5),
)
PERCEPTUAL = (
    _perceptual("mnist"),
    _perceptual("fashion_mnist"),
    _perceptual("emoji"),
)
RECIPES = JUDGES + PERCEPTUAL
