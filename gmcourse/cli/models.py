"""`gmcourse train`, `sample`, `evaluate`: a recipe becomes weights, and weights become pictures and numbers."""

import json
import time
from difflib import get_close_matches
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from torch import Tensor
from torch.distributions import Distribution

from gmcourse import checkpoint, recipes, zoo
from gmcourse.model import GenerativeModel, Trainable, check_count, device
from gmcourse.recipes import Recipe

DEVICES = ("cpu", "cuda", "mps")
PICTURE_WIDTH = 480  # pixels that a mosaic is enlarged to, at least


def train_recipe(name: str, steps: int | None, seed: int, out: Path, where: str | None) -> None:
    """Train a recipe (or go on with it) and write weights, card, picture and metrics to the folder `out`.

    Raises ValueError for an unknown recipe or device, and what `fit` raises.
    """
    recipe = recipes.get(name)
    length = {} if steps is None else {"steps": steps}
    model = placed(recipe.build(seed), where)
    state = out / "run.safetensors"
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=steps or recipe.fit.get("steps"))
        history = recipe.train(
            model,
            recipe.load_data(),
            **length,
            seed=seed,
            progress=False,
            checkpoint=state,
            callback=lambda step, _: bar.update(task, completed=step),
        )
    card = recipe.card(model, history, seed)
    weights = checkpoint.save(out / f"{name}.safetensors", model, card)
    if isinstance(model, GenerativeModel):
        _draw(model.cpu(), recipe, 64, seed, out / f"{name}-samples.png")
    (out / f"{name}.json").write_text(json.dumps(card, indent=2) + "\n", "utf-8")
    _print_numbers(name, card["metrics"] | card["training"])
    print(weights)


def sample_picture(source: str, n: int, seed: int, out: Path | None) -> None:
    """Draw n samples of trained weights into a PNG and print its path.

    Raises ValueError for unknown weights, weights of a classifier or n < 1, FileNotFoundError and CheckpointError for a
    file that is none.
    """
    check_count(n)
    model, recipe, _ = _trained(source)
    if not isinstance(model, GenerativeModel):
        raise ValueError(f"{source} is a {type(model).__name__}, which draws no samples; try gmcourse evaluate {source}")
    print(_draw(model, recipe, n, seed, out or Path(f"{Path(source).stem}-samples.png")))


def print_metrics(source: str, *, as_json: bool) -> None:
    """Measure trained weights on the test data of their recipe and print the numbers. Raises as `sample_picture`."""
    model, recipe, card = _trained(source)
    start = time.perf_counter()
    metrics = recipe.evaluate(model)
    if as_json:
        facts = {"recipe": recipe.name, "seed": card.get("seed"), "data": recipe.data, "metrics": metrics}
        print(json.dumps(facts | {"seconds": round(time.perf_counter() - start, 1)}))
    else:
        _print_numbers(f"{recipe.name} on {recipe.data}", metrics)


def _trained(source: str) -> tuple[Trainable, Recipe, dict]:
    """Model, recipe and card of weights in the zoo (by name) or in a file."""
    if source in zoo.NAMES:
        card = zoo.card(source)
        return zoo.load(source), recipes.get(card["recipe"]), card
    if not source.endswith(".safetensors") and not Path(source).exists():
        if source in recipes.RECIPES:
            raise ValueError(f"the zoo has no weights of {source!r}: make some with gmcourse train {source}")
        near = get_close_matches(source, zoo.NAMES) or zoo.NAMES
        raise ValueError(
            f"no weights named {source!r} in the zoo and no such file; there are {', '.join(near) or 'none'}"
        )
    _, card = checkpoint.read(source)
    if "recipe" not in card:
        raise ValueError(
            f"{source} does not say which recipe it belongs to: it is no result of gmcourse train"
        )
    recipe = recipes.get(card["recipe"])
    model = recipe.build()
    checkpoint.load(source, model)
    return model.eval(), recipe, card


def placed(model: Trainable, where: str | None) -> Trainable:
    """The model on the device of that name, the best there is if None. ValueError for a device that is not there."""
    chosen = where or str(device())
    if chosen.split(":")[0] not in DEVICES:
        raise ValueError(f"device must be one of {', '.join(DEVICES)}; got {chosen!r}")
    try:
        return model.to(chosen)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {chosen!r} can't be used: {str(error).splitlines()[0]}") from None


def _draw(model: GenerativeModel, recipe: Recipe, n: int, seed: int, path: Path) -> Path:
    """A picture of n samples: points over the true density in 2-D, else a mosaic."""
    x = model.sample(n, generator=torch.Generator().manual_seed(seed))
    path.parent.mkdir(parents=True, exist_ok=True)
    if x.ndim == 4:
        path.write_bytes(_mosaic(x))
    else:
        _scatter(x, recipe.load_data(), path)
    return path


def _mosaic(x: Tensor) -> bytes:
    from gmcourse.viz import mosaic_array, png

    page = mosaic_array(x)
    return png(page, scale=max(1, -(-PICTURE_WIDTH // page.shape[1])))


def _scatter(x: Tensor, data: Tensor | Distribution, path: Path) -> None:
    from matplotlib.figure import Figure

    from gmcourse.viz import plots, style

    with style.context():
        figure = Figure()
        plots.samples(x, figure.add_subplot(), over=data if isinstance(data, Distribution) else None)
        figure.savefig(path)


def _print_numbers(title: str, numbers: dict[str, float]) -> None:
    table = Table(show_header=False)
    for name, value in numbers.items():
        table.add_row(name, f"{value:.4g}" if isinstance(value, float) else str(value))
    Console().print(title, table, sep="\n")
