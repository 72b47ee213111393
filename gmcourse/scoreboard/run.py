r"""Train every family under one budget of time, and measure it.

    for each model:  steps = budget / time per step, once (`budget.affordable_steps`)
    for each seed:   train so many steps, the recipe's learning rates stretched over them; measure; keep the row

In the folder: the board of the last run (see `Board.write`), plan.json with the steps, and rows/ with a file for each
finished row. What is finished is not made again unless its settings differ; a row that was interrupted goes on from its
checkpoint.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from gmcourse import recipes, zoo
from gmcourse.metrics.board import write_text
from gmcourse.metrics.scoreboard import Board
from gmcourse.model import check_count
from gmcourse.model import device as best_device
from gmcourse.recipes import Recipe
from gmcourse.scoreboard.budget import affordable_steps
from gmcourse.scoreboard.row import Workplace
from gmcourse.training.feed import Data

DATA = ("gaussians25", "swiss_roll", "fashion_mnist")  # where all five families meet


def datasets() -> list[str]:
    """The data that some recipe joins a scoreboard on."""
    return sorted({recipe.data for recipe in recipes.RECIPES.values() if recipe.family})


def entrants(data: str, models: Sequence[str] | None = None) -> list[Recipe]:
    """The recipes of a scoreboard: the named ones, or all of that data that name a family.

    Raises ValueError for data that no recipe joins on, unknown recipes and recipes of other data.
    """
    if data not in datasets():
        raise ValueError(f"data must be one of {', '.join(datasets())}; got {data!r}")
    if models is None:
        return [recipe for recipe in recipes.RECIPES.values() if recipe.family and recipe.data == data]
    if not models:
        raise ValueError("models must name at least one recipe; got none")
    chosen = [recipes.get(name) for name in models]
    for recipe in chosen:
        if recipe.data != data:
            raise ValueError(f"models must be recipes of {data}; {recipe.name} is of {recipe.data}")
    return chosen


def run(
    data: str,
    models: Sequence[str] | None = None,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    budget: float = 30.0,
    folder: str | Path,
    steps: int | Mapping[str, int] | None = None,
    load: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Board:
    """Train, measure, and return the board, which also lies in `folder`, whole after every row.

    Args:
        data: name of the data.
        models: names of recipes; unless given all of that data that name a `family`.
        budget: seconds of training for each row.
        steps: of every model, or by name, instead of what the budget affords: then all numbers but times can be repeated.
        load: measure the weights in the zoo instead of training any; a model that has none there stays out unless named.
        device: the best there is unless given.

    Raises ValueError for unknown or misplaced names and a budget or steps that are not positive, and what `fit` raises.
    """
    chosen, folder = entrants(data, models), Path(folder)
    if isinstance(steps, Mapping) and (unknown := sorted(steps.keys() - {recipe.name for recipe in chosen})):
        raise ValueError(f"steps must be of the models that are trained; got some of {', '.join(unknown)}")
    if not budget > 0:
        raise ValueError(f"budget must be a positive number of seconds; got {budget}")
    place = Workplace(folder / "rows", torch.device(best_device() if device is None else device), progress)
    board = Board([])
    for recipe in _in_zoo(chosen, named=models is not None) if load else chosen:
        if load:
            _enter(board, folder, place.loaded(recipe))
            continue
        train = recipe.load_data()
        planned = _planned(recipe, train, budget, steps, folder / "plan.json", place.device)
        for seed in seeds:
            _enter(board, folder, place.trained(recipe, train, seed, planned))
    return board


def _enter(board: Board, folder: Path, made: tuple) -> None:
    row, samples = made
    board.rows.append(row)
    board.samples[row.key] = samples
    board.write(folder)


def _in_zoo(chosen: Sequence[Recipe], named: bool) -> list[Recipe]:
    there = [recipe for recipe in chosen if recipe.name in zoo.NAMES]
    missing = [recipe.name for recipe in chosen if recipe not in there]
    if not there or (named and missing):
        raise ValueError(f"models must have weights in the zoo; there are none of {', '.join(missing)}")
    return there


def _planned(
    recipe: Recipe, data: Data, budget: float, steps: int | Mapping[str, int] | None, path: Path, device: torch.device
) -> int:
    """Steps of every row of the recipe: as given, as in the plan, or as measured now and put into the plan."""
    given = steps.get(recipe.name) if isinstance(steps, Mapping) else steps
    if given is not None:
        return check_count(given, "steps")
    plan = json.loads(path.read_text("utf-8")) if path.exists() else {}
    terms = {"budget": budget, "device": device.type, "model": repr(recipe.build())}
    entry = plan.get(recipe.name, {})
    if {k: entry.get(k) for k in terms} != terms:
        entry = {**terms, "steps": affordable_steps(recipe, data, budget, device)}
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(plan | {recipe.name: entry}, indent=1) + "\n")
    return entry["steps"]
