"""What a recipe is: a name -> model, data and training settings, so that a result can be made again by its name."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.data import images, toy2d
from gmcourse.fit import fit
from gmcourse.model import Trainable
from gmcourse.randomness import seeded
from gmcourse.recipes.keep import Keep
from gmcourse.recipes.measures import Numbers
from gmcourse.training.history import History

LENGTHS = {"steps", "epochs"}
Data = Tensor | tuple[Tensor, Tensor] | Distribution


@dataclass(frozen=True)
class Recipe:
    """All that it takes to train a model again.

    Args:
        model: builds it, untrained.
        data: name of a 2-D density (`data.toy2d`) or of an image set (`data.images`).
        measure: (model, test data) -> the numbers on the card.
        fit: keyword arguments of `fit`.
        finish: (model, training data without labels, steps that `fit` made) -> None, what is fitted afterwards, e.g. a
            prior to the codes.
        keep: by what criterion the best weights on the way are kept, instead of the last.
        labelled: whether the images come with their labels.
        source: where the settings come from.
        family: under which name the recipe joins the scoreboard of its data, e.g. "VAE"; None stays out.
    """

    name: str
    summary: str
    model: Callable[[], Trainable]
    data: str
    measure: Callable[..., Numbers]
    fit: Mapping = field(default_factory=dict)
    finish: Callable[[Trainable, Data, int], None] | None = None
    keep: Keep | None = None
    labelled: bool = False
    source: str = "this course"
    family: str | None = None

    def build(self, seed: int = 0) -> Trainable:
        """The untrained model; the same seed gives the same initial weights, and the caller's random state is left alone."""
        with seeded(seed):
            return self.model()

    def load_data(self, split: str = "train") -> Data:
        """The data: a Distribution, images (n, c, h, w) in [-1, 1], or a pair of images and labels (n,)."""
        if self.data in toy2d.NAMES:
            return toy2d.get(self.data)
        pairs = images.load_images(self.data, split)
        return pairs if self.labelled else pairs[0]

    def train(self, model: Trainable, data: Data, **settings) -> History:
        """Train by `fit`, with the recipe's settings and those given here, which go first; then `finish`, on one clock."""
        own = {k: v for k, v in self.fit.items() if k not in LENGTHS or not settings.keys() & LENGTHS}
        history = (self.keep.fit if self.keep else fit)(model, data, **own | settings)
        if self.finish is not None:
            start = time.perf_counter()
            self.finish(model, data[0] if self.labelled else data, history.steps)
            history.seconds += time.perf_counter() - start
        return history

    @torch.no_grad()
    def evaluate(self, model: Trainable) -> Numbers:
        """What `measure` finds on the test data."""
        return self.measure(model, self.load_data("test"))

    def card(self, model: Trainable, history: History, seed: int) -> dict:
        """What a checkpoint of this recipe says of itself: settings, training, and the numbers of `evaluate`."""
        return {
            "recipe": self.name,
            "summary": self.summary,
            "source": self.source,
            "seed": seed,
            "data": self.data,
            "training": {
                "steps": history.steps,
                "seconds": round(history.seconds, 1),
                "samples_per_second": round(history.steps * self.fit.get("batch_size", 256) / max(history.seconds, 1e-3), 1),
            },
            "metrics": {key: round(value, 3) for key, value in self.evaluate(model).items()},
            "parameters": sum(p.numel() for p in model.parameters()),
        }
