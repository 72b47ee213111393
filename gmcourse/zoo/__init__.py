"""Small trained weights, each with the recipe that made it and a card that says how good it is.

    model = zoo.load("vae_mnist")          # in eval mode, on the CPU unless told otherwise
    zoo.card("vae_mnist")["metrics"]       # what it reached on the test set

Weights lie in `zoo/weights/NAME.safetensors`; `NAME.json` beside it is a printed copy of the card inside.
`python -m gmcourse.zoo RECIPE [SEED]` trains a recipe and puts the result here, as RECIPE or RECIPE_seedN.
"""

import json
from pathlib import Path

import torch

from gmcourse import checkpoint, recipes
from gmcourse.model import Trainable
from gmcourse.recipes.judged import feature_net
from gmcourse.recipes.weights import WEIGHTS

__all__ = ["NAMES", "WEIGHTS", "card", "feature_net", "load", "save"]
NAMES = tuple(sorted(path.stem for path in WEIGHTS.glob("*.safetensors")))


def load(name: str, device: str | torch.device = "cpu") -> Trainable:
    """The trained model of that name, in eval mode, on `device`."""
    model = recipes.get(card(name)["recipe"]).build()
    checkpoint.load(_path(name), model)
    return model.to(device).eval()


def card(name: str) -> dict:
    """What is known of the weights: recipe, seed, data, training, metrics, versions."""
    return checkpoint.read(_path(name))[1]


def save(model: Trainable, facts: dict) -> Path:
    """Put a trained model into the zoo, named after recipe and seed on its card, with a printed copy of the card."""
    name = facts["recipe"] + (f"_seed{facts['seed']}" if facts["seed"] else "")
    path = checkpoint.save(WEIGHTS / f"{name}.safetensors", model, facts)
    path.with_suffix(".json").write_text(json.dumps(checkpoint.read(path)[1], indent=2) + "\n")
    return path


def _path(name: str) -> Path:
    if name not in NAMES:
        raise ValueError(f"no weights named {name!r} in the zoo; there are {', '.join(NAMES) or 'none'}")
    return WEIGHTS / f"{name}.safetensors"
