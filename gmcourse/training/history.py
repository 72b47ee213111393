"""What a training run leaves behind: the losses of each player, the number of steps, the seconds; it can plot itself."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class History:
    """Losses per player (one number per move of that player, shape (moves,)), steps done, and seconds spent."""

    losses: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0

    def __repr__(self) -> str:
        last = ", ".join(f"{name} {average(loss):.4g}" for name, loss in self.losses.items())
        return f"History({self.steps} steps in {self.seconds:.1f} s; last losses: {last})"

    def plot(self, ax=None, *, window: float = 0.02):
        """Draw each player's loss against its moves, on `ax` or new axes, and return the axes.

        The raw loss stands in the background, its running mean over a fraction `window` of the run in front.
        """
        if ax is None:
            from matplotlib import pyplot

            ax = pyplot.subplots(figsize=(5, 3))[1]
        for name, loss in self.losses.items():
            width = max(1, int(window * len(loss)))
            smooth = loss.unfold(0, width, 1).mean(1)
            (raw,) = ax.plot(torch.arange(1, len(loss) + 1), loss, alpha=0.25, linewidth=0.8, rasterized=True)
            ax.plot(torch.arange(len(smooth)) + (width + 1) / 2, smooth, color=raw.get_color(), label=name)
        ax.set(xlabel="step" if len({len(loss) for loss in self.losses.values()}) == 1 else "move", ylabel="loss")
        ax.legend(frameon=False)
        return ax


def average(loss: Sequence[float] | Tensor, last: int = 50) -> float:
    """Mean of the last moves: what a progress line reports. NaN if there was none."""
    return float(torch.as_tensor(loss[-last:]).mean()) if len(loss) else math.nan


class Ledger:
    """Losses as they come in. On the CPU each is looked at before it moves a weight; elsewhere 64 at a time, so that the
    device is not kept waiting.

    Args:
        names: the players.
        run_on: the engine; losses are averaged over its processes, so that all of them stop together.
        last_checkpoint: tells in words where the last good state lies.
    """

    def __init__(self, names: Sequence[str], run_on, last_checkpoint: Callable[[], str]):
        self.losses: dict[str, list[float]] = {name: [] for name in names}
        self.run_on, self.last_checkpoint = run_on, last_checkpoint
        self.pending: list[tuple[str, int, Tensor]] = []
        self.patience = 1 if run_on.device.type == "cpu" else 64

    def add(self, name: str, step: int, loss: Tensor) -> None:
        """Note a player's mean loss; raise FloatingPointError if one is found that is not finite."""
        self.pending.append((name, step, loss.detach().float()))
        if len(self.pending) >= self.patience:
            self.settle()

    def settle(self) -> None:
        """Look at all losses noted so far."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        values = self.run_on.all_reduce(torch.stack([loss for _, _, loss in pending]), reduce_op="mean").tolist()
        for (name, step, _), value in zip(pending, values, strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(f"the loss of player {name!r} is {value} at step {step}; {self.last_checkpoint()}")
            self.losses[name].append(value)

    def summary(self) -> str:
        """The last losses in words, for the progress line."""
        return ", ".join(f"{name} loss {average(losses):.4g}" for name, losses in self.losses.items())

    def history(self, steps: int, seconds: float) -> History:
        """All settled losses as a History."""
        return History({name: torch.tensor(losses) for name, losses in self.losses.items()}, steps, seconds)
