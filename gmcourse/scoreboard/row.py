r"""One row of the scoreboard: a recipe trained with a seed for so many steps, or its weights in the zoo, and measured.

A finished row lies in one file, its samples as tensors and its numbers on the card, with the settings that made it: where
they are asked for again, nothing is trained. A run that was stopped left a checkpoint that is named after the settings, and
goes on from there.
"""

import json
import zlib
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from gmcourse import checkpoint, zoo
from gmcourse.metrics.board import large, row_of, small
from gmcourse.metrics.scoreboard import Row, measured
from gmcourse.model import GenerativeModel
from gmcourse.recipes import Recipe
from gmcourse.recipes.keep import beside
from gmcourse.recipes.measures import by_quadrature
from gmcourse.training.feed import Data
from gmcourse.training.progress import Progress

POINTS, IMAGES = 500, 25  # samples that are kept


@dataclass(frozen=True)
class Workplace:
    """Where rows are made: the folder of their files, the device, and whether bars are shown."""

    folder: Path
    device: torch.device
    progress: bool

    def trained(self, recipe: Recipe, data: Data, seed: int, steps: int) -> tuple[Row, Tensor]:
        """The row of a recipe after `steps` steps on its training data, and samples: made now, or found.

        Raises what `fit` and `measured` raise.
        """
        plain = {k: v for k, v in recipe.fit.items() if isinstance(v, (int, float, str, dict)) and k != "checkpoint_every"}
        model = recipe.build(seed)
        settings = {"recipe": recipe.name, "seed": seed, "device": self.device.type, "fit": plain | {"steps": steps}}
        settings |= {"model": repr(model), "versions": checkpoint.versions(), **habits(recipe)}
        path = self.folder / f"{recipe.name}-{seed}.safetensors"
        if found := _finished(path, settings):
            return found
        state = self.folder / f"{recipe.name}-{seed}-{zlib.crc32(_text(settings)):08x}.run"
        model = model.to(self.device)
        with Progress(f"{recipe.name}, seed {seed}", steps, show=self.progress) as bar:
            history = recipe.train(
                model,
                data,
                steps=steps,
                seed=seed,
                checkpoint=state,
                checkpoint_every=max(50, steps // 10),
                callback=lambda step, _: bar.advance(step - bar.done),
                progress=False,
            )
            row, samples = judged(model, recipe, seed, steps, history.seconds)
            bar.note = said(row)
        _finish(path, row, samples, settings)
        for left in (beside(state), state):
            left.unlink(missing_ok=True)
        return row, samples

    def loaded(self, recipe: Recipe) -> tuple[Row, Tensor]:
        """The row of a recipe's weights in the zoo, with the steps and seconds on their card, and samples."""
        card = zoo.card(recipe.name)
        settings = {"zoo": recipe.name, "device": self.device.type, **{k: card[k] for k in ("seed", "training", "versions")}}
        path = self.folder / f"{recipe.name}-zoo.safetensors"
        if found := _finished(path, settings):
            return found
        model, training = zoo.load(recipe.name, self.device), card["training"]
        with Progress(f"{recipe.name} from the zoo", 1, show=self.progress, unit="model") as bar:
            row, samples = judged(model, recipe, card["seed"], training["steps"], training["seconds"])
            bar.advance(note=said(row))
        _finish(path, row, samples, settings)
        return row, samples


def habits(recipe: Recipe) -> dict[str, str | list[float]]:
    """The recipe's optimiser, schedule and finish, in words and numbers that are the same everywhere."""
    optimizer, schedule = recipe.fit.get("optimizer"), recipe.fit.get("schedule")
    told = repr(optimizer) if isinstance(optimizer, partial) else getattr(optimizer, "__qualname__", "")
    finish = {} if recipe.finish is None else {"finish": recipe.finish.__qualname__}
    rates = [] if schedule is None else [round(schedule(k / 4), 9) for k in range(4)]
    return finish | {"optimizer": told, "schedule": rates}


def judged(model: GenerativeModel, recipe: Recipe, seed: int, steps: int, seconds: float) -> tuple[Row, Tensor]:
    """The row of a trained model, measured on the recipe's test data, and some of the samples that were measured."""
    net = zoo.feature_net(recipe.data) if len(model.event_shape) == 3 else None
    data, log_prob = recipe.load_data("test"), None if net else by_quadrature(model)
    numbers, x = measured(model.eval(), data, seed=seed, net=net, log_prob=log_prob)
    family = recipe.family or type(model).__name__
    row = Row(recipe.name, family, recipe.data, seed, steps, round(seconds, 2), **numbers)
    return row, large(small(x[: IMAGES if net else POINTS]))


def said(row: Row) -> str:
    """The row in a few words."""
    told = [f"FID {row.fid:.2f}" if row.w2 is None else f"W2 {row.w2:.3f}"]
    told += [f"recall {row.recall:.2f}" if row.modes is None else f"{row.covered} of {row.modes} modes"]
    return ", ".join([*told, f"{row.ms_per_1000:.3g} ms per 1000"])


def _finished(path: Path, settings: dict) -> tuple[Row, Tensor] | None:
    if not path.exists():
        return None
    tensors, card = checkpoint.read(path)
    if card["settings"] != json.loads(_text(settings)):
        return None
    return row_of(card["row"]), large(tensors["samples"])


def _finish(path: Path, row: Row, samples: Tensor, settings: dict) -> None:
    checkpoint.write(path, {"samples": small(samples)}, {"kind": "row", "row": asdict(row), "settings": settings})


def _text(settings: dict) -> bytes:
    return json.dumps(settings, sort_keys=True).encode()
