"""Train a recipe and put the result into the zoo: `python -m gmcourse.zoo vae_mnist [seed]`; resumes if stopped."""

import sys
import tempfile
from pathlib import Path

from gmcourse import fit, recipes, zoo


def main(name: str, seed: str = "0") -> None:
    """Train, evaluate, write weights and card."""
    recipe = recipes.get(name)
    model = recipe.build(int(seed))
    state = Path(tempfile.gettempdir()) / f"gmcourse-zoo-{name}-{seed}.safetensors"
    history = fit(model, recipe.load_data(), **recipe.fit, seed=int(seed), checkpoint=state)
    facts = {
        "recipe": name,
        "summary": recipe.summary,
        "source": recipe.source,
        "seed": int(seed),
        "data": recipe.data,
        "training": {"steps": history.steps, "seconds": round(history.seconds), "batch_size": recipe.fit["batch_size"]},
        "metrics": {key: round(value, 3) for key, value in recipe.evaluate(model).items()},
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    print(zoo.save(name, model, facts), facts["metrics"])
    state.unlink()


if __name__ == "__main__":
    main(*sys.argv[1:])
