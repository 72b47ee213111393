"""Where trained weights lie, and how a recipe gets its own: for recipes that build on another's result."""

from pathlib import Path

from gmcourse import checkpoint
from gmcourse.model import Trainable
from gmcourse.recipes.recipe import Recipe

WEIGHTS = Path(__file__).parents[1] / "zoo" / "weights"


def trained(recipe: Recipe) -> Trainable:
    """The recipe's model with its weights from the zoo, those of seed 0, in evaluation mode."""
    model = recipe.build()
    checkpoint.load(WEIGHTS / f"{recipe.name}.safetensors", model)
    return model.eval()
