"""Stop at the best: a recipe's way to train by a criterion on data that it holds back."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.fit import fit
from gmcourse.model import Trainable
from gmcourse.randomness import draw
from gmcourse.training.best import KeepBest
from gmcourse.training.feed import key
from gmcourse.training.history import History


def beside(checkpoint: Path) -> Path:
    """Where the best weights of a run lie that is written to `checkpoint`."""
    return Path(checkpoint).with_suffix(".best")


@dataclass(frozen=True)
class Keep:
    """Train on all rows but the last, or on a distribution, and keep the weights that do best on what is held out.

    Args:
        criterion: (model, the rows held out) -> a number, the lower the better.
        rows: how many are held out.
        every: steps between two looks.
    """

    criterion: Callable[[Trainable, Tensor], float]
    rows: int = 500
    every: int = 50

    def fit(
        self,
        model: Trainable,
        data: Tensor | Distribution,
        *,
        callback: Callable | None = None,
        checkpoint: Path | None = None,
        **settings,
    ) -> History:
        """`fit` with its settings; the best so far lies beside the checkpoint, and a run that resumes goes on with it."""
        data, held_out = self._split(data)
        path = None if checkpoint is None else beside(checkpoint)
        goes_on = checkpoint is not None and Path(checkpoint).exists() and settings.get("resume", True)

        def criterion(trained: Trainable) -> float:
            return self.criterion(trained, held_out)

        best = KeepBest(model, criterion, every=self.every, path=path, resume=goes_on)

        def look(step: int, trained: Trainable) -> bool:
            return bool(callback and callback(step, trained)) | best(step, trained)

        with best:
            return fit(model, data, callback=look, checkpoint=checkpoint, **settings)

    def _split(self, data: Tensor | Distribution) -> tuple[Tensor | Distribution, Tensor]:
        """What is trained on, and the rows held out: the last of a tensor, or draws of a distribution by themselves."""
        if isinstance(data, Distribution):
            return data, draw(data, self.rows, generator=torch.Generator().manual_seed(key(0, "held out")))
        if not isinstance(data, Tensor) or len(data) <= self.rows:
            came = f"{len(data)} rows" if isinstance(data, Tensor) else type(data).__name__
            raise ValueError(f"data must be a tensor of more than the {self.rows} rows that are held out; got {came}")
        return data[: -self.rows], data[-self.rows :]
