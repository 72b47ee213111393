"""The state of a run on the disk: enough to go on from it as if nothing had happened.

That is little, because the randomness of a step is a function of the step: weights, optimiser moments, moving averages, the
losses so far, and the number of steps done. Settings that decide what a step sees are kept too, and compared.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gmcourse import checkpoint
from gmcourse.checkpoint import CheckpointError
from gmcourse.model import Trainable
from gmcourse.training.game import Move
from gmcourse.training.history import History, Ledger


class RunState:
    """Writes the state of a run to `path` and reads it back. Without a path it does nothing.

    Args:
        path: a file, or None.
        settings: what must be the same when the run is resumed (JSON).
        model, moves: what the state consists of.
        run_on: the engine; the first process writes.
    """

    def __init__(self, path, settings: dict, model: Trainable, moves: Sequence[Move], run_on):
        self.path = None if path is None else Path(path)
        self.settings, self.model, self.moves, self.run_on = settings, model, moves, run_on
        self.step: int | None = None

    def where(self) -> str:
        """In words: where the last good state lies."""
        if self.path is None:
            return "no checkpoint was kept (give fit a checkpoint=… path)"
        return f"the last good checkpoint is {self.path} (step {self.step})"

    def write(self, history: History) -> None:
        """Write the state after `history.steps` steps."""
        if self.path is None:
            return
        if not all(p.isfinite().all() for p in self.model.parameters()):
            raise FloatingPointError(f"a parameter is not finite after step {history.steps - 1}; {self.where()}")
        if self.run_on.is_global_zero:
            card = {"kind": "run", "steps": history.steps, "seconds": history.seconds, "settings": self.settings}
            checkpoint.write(self.path, self._tensors(history), card)
        self.step = history.steps
        self.run_on.barrier()

    def read(self, ledger: Ledger) -> History:
        """Restore model, optimisers, averages and losses from the file, if there is one; the History so far.

        Raises CheckpointError if the file is broken, or is another run's.
        """
        if self.path is None or not self.path.exists():
            return ledger.history(0, 0.0)
        tensors, card = checkpoint.read(self.path)
        if card.get("kind") != "run" or card["settings"] != self.settings:
            raise CheckpointError(
                f"{self.path} belongs to another run: it has {card.get('settings', card.get('model'))}, this run has "
                f"{self.settings}; give another checkpoint=… path, or resume=False to start afresh and overwrite it"
            )
        checkpoint.fit_into(self.model, _below(tensors, "model"), self.path)
        for move in self.moves:
            _restore(move, tensors)
            ledger.losses[move.name] = tensors[f"losses/{move.name}"].tolist()
        self.step = card["steps"]
        return ledger.history(card["steps"], card["seconds"])

    def _tensors(self, history: History) -> dict[str, Tensor]:
        tensors = {f"model/{name}": t for name, t in self.model.state_dict().items()}
        for move in self.moves:
            tensors[f"losses/{move.name}"] = history.losses[move.name]
            for i, moments in move.optimizer.state_dict()["state"].items():
                kept = {k: torch.as_tensor(v) for k, v in moments.items() if v is not None}
                tensors |= {f"optimizer/{move.name}/{i}/{k}": v for k, v in kept.items()}
            if move.average is not None:
                tensors |= {f"average/{move.name}/{k}": v for k, v in move.average.state_dict().items()}
        return tensors


def _below(tensors: dict[str, Tensor], folder: str) -> dict[str, Tensor]:
    return {name.removeprefix(folder + "/"): t for name, t in tensors.items() if name.startswith(folder + "/")}


def _restore(move: Move, tensors: dict[str, Tensor]) -> None:
    state: dict[int, dict[str, Tensor]] = {}
    for name, t in _below(tensors, f"optimizer/{move.name}").items():
        i, k = name.split("/")
        state.setdefault(int(i), {})[k] = t
    move.optimizer.load_state_dict({**move.optimizer.state_dict(), "state": state})
    if move.average is not None:
        move.average.load_state_dict(_below(tensors, f"average/{move.name}"))
