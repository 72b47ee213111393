r"""Stop at the best, not at the end: some trainings get worse, or blow up, long before they are told to stop.

An energy that is trained by chains goes on pulling at data and negatives until its chains no longer keep up, and in the end
it diverges (thesis 4.4.3: "until we cannot generate realistic samples anymore"). So every now and then a criterion c, which
the training does not minimise, is taken on held-out data, and the weights with the smallest c so far are put aside:

    k* = argmin_k c(θ_k),  k = 0, every, 2·every, …        in the end θ = θ_{k*}

Step 0 counts, too: for a tilted model it is hardly more than the base. All evaluations draw the same random numbers, so
that they differ by the weights alone. The least of many noisy values is too good to be true: report another sample's.
"""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from gmcourse import checkpoint
from gmcourse.model import Trainable, check_count, evaluating
from gmcourse.randomness import seeded
from gmcourse.training.game import averaged


class KeepBest:
    """A callback of `fit`, and a context around it that leaves the best weights in the model, in evaluation mode.

    Args:
        model: what is trained.
        criterion: model -> a number, the lower the better, e.g. a feature-FID or −log p of held-out data. Taken in
            evaluation mode, without gradients, and without a trace in the random state. One that is not finite, or raises a
            FloatingPointError, is worse than any other.
        every: steps between two evaluations.
        patience: evaluations without a new best that end the run; None for no end.
        path: file for the best weights, read by `gmcourse.checkpoint.load`, too. If it is there already and `resume` is
            true, as for a run that goes on from a checkpoint of `fit`, the search goes on with it.
        seed: of what the criterion draws.

    Upon a FloatingPointError the best weights are put back, and it is raised again, with the steps that were done, and step
    and value of what was kept. Where `fit` keeps moving averages (`ema=…`), they are what is looked at and put aside.

    >>> from gmcourse.fit import fit
    >>> from gmcourse.flows import real_nvp
    >>> model, data, held_out = real_nvp((2,)), torch.randn(64, 2), torch.randn(64, 2)
    >>> with KeepBest(model, lambda m: -m.log_prob(held_out).mean(), every=2) as best:
    ...     history = fit(model, data, steps=5, callback=best, progress=False)
    >>> [step for step, _ in best.history]
    [0, 2, 4, 5]
    """

    def __init__(
        self,
        model: Trainable,
        criterion: Callable[[Trainable], float | Tensor],
        *,
        every: int = 100,
        patience: int | None = None,
        path: str | os.PathLike | None = None,
        resume: bool = True,
        seed: int = 0,
    ):
        self.model, self.criterion, self.every, self.seed = model, criterion, check_count(every, "every"), seed
        self.patience = None if patience is None else check_count(patience, "patience")
        self.path, self.resume = None if path is None else Path(path), resume
        self.history: list[tuple[int, float]] = []  # steps done, criterion
        self.step, self.value = 0, math.inf  # of the best
        self.done: int | None = None  # steps done, once the run has been met
        self._weights = self._copy()

    def __repr__(self) -> str:
        return f"KeepBest(step {self.step} of {self.done or 0}, criterion {self.value:.4g})"

    def __enter__(self) -> Self:
        if self.resume and self.path is not None and self.path.exists():
            self._read()
        else:
            self.look(0)
        return self

    def __call__(self, step: int, model: Trainable) -> bool:
        """To be called after every step; true if the run should end."""
        if self.done is None:  # a run that was interrupted begins before it had ended, and makes these steps again
            self.history = [seen for seen in self.history if seen[0] < step]
        self.done = step
        if step % self.every:
            return False
        self.look(step)
        return self.patience is not None and sum(seen > self.step for seen, _ in self.history) >= self.patience

    def __exit__(self, kind, error, trace) -> None:
        if error is None:  # `fit` may have changed the model without a step, from a checkpoint of a finished run
            self.look(self.done or 0)
        if error is None or isinstance(error, FloatingPointError):
            self.restore()
        if isinstance(error, FloatingPointError):
            kept = f"the model has the weights of step {self.step} again, the best so far (criterion {self.value:.4g})"
            raise FloatingPointError(f"training diverged after {self.done or 0} steps: {error}; {kept}") from error

    def look(self, step: int) -> float:
        """Take the criterion of the model as it is after so many steps; put the weights aside if they are the best."""
        with averaged(self.model):
            with seeded(self.seed, self._place()), evaluating(self.model), torch.no_grad():
                try:
                    value = float(self.criterion(self.model))
                except FloatingPointError:
                    value = math.nan
            if not self.history or self.history[-1] != (step, value):
                self.history.append((step, value))
            if math.isfinite(value) and value < self.value:
                self.step, self.value, self._weights = step, value, self._copy()
        if self.path is not None:
            self._write()
        return value

    def restore(self) -> None:
        """Give the model the best weights, and let it be in evaluation mode."""
        self.model.load_state_dict(self._weights)
        self.model.eval()

    def _copy(self) -> dict[str, Tensor]:
        return {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def _place(self) -> torch.device:
        return next((p.device for p in self.model.parameters()), torch.device("cpu"))

    def _write(self) -> None:
        found = {"step": self.step, "value": self.value, "history": self.history}
        checkpoint.write(self.path, self._weights, {"model": type(self.model).__name__, "best": found})

    def _read(self) -> None:
        current = self._copy()
        found = checkpoint.load(self.path, self.model).get("best")
        if found is None:
            self.model.load_state_dict(current)
            raise checkpoint.CheckpointError(f"{self.path} holds no best weights; give another path, or resume=False")
        self._weights = self._copy()
        self.model.load_state_dict(current)
        self.step, self.value, self.history = found["step"], found["value"], [tuple(seen) for seen in found["history"]]
