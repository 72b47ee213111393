"""Train a recipe and put the result into the zoo: `python -m gmcourse.zoo vae_mnist [seed]`; resumes if stopped."""

import sys
import tempfile
from pathlib import Path

from gmcourse import recipes, zoo
from gmcourse.recipes.keep import beside


def main(name: str, seed: str = "0") -> None:
    """Train, evaluate, write weights and card."""
    recipe = recipes.get(name)
    model = recipe.build(int(seed))
    state = Path(tempfile.gettempdir()) / f"gmcourse-zoo-{name}-{seed}.safetensors"
    history = recipe.train(model, recipe.load_data(), seed=int(seed), checkpoint=state)
    card = recipe.card(model, history, int(seed))
    print(zoo.save(model, card), card["metrics"])
    beside(state).unlink(missing_ok=True)
    state.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
