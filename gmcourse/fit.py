"""The one training loop: it goes round the table of players, whatever the model.

At each step every player whose turn it is sees the batch, computes its loss, and moves its own parameters:

    batch → player.loss(batch).mean() → gradient → clip → optimiser step → moving average

Randomness of step k depends on (seed, rank, k) alone, so that a run stopped at any moment goes on from its last checkpoint
to bitwise the same weights (on the CPU) as an uninterrupted one. One process in float32 runs bare; for anything else
(several devices, machines, mixed precision) Lightning Fabric places, casts and averages, and the loop stays the same.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.distributions import Distribution

from gmcourse.model import Player, Trainable, check_count
from gmcourse.training.engine import engine
from gmcourse.training.feed import Data, Share, batches, reseed, size
from gmcourse.training.game import Move, Table, playing
from gmcourse.training.history import History, Ledger
from gmcourse.training.progress import Progress
from gmcourse.training.resume import RunState


def fit(
    model: Trainable,
    data: Data,
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch_size: int = 256,
    lr: float | Mapping[str, float] = 1e-3,
    optimizer: Callable[..., torch.optim.Optimizer] | Mapping[str, Callable] | None = None,
    schedule: Callable[[float], float] | None = None,
    clip: float | None = None,
    ema: float | Mapping[str, float] | None = None,
    callback: Callable[[int, Trainable], bool | None] | None = None,
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 500,
    resume: bool = True,
    seed: int = 0,
    progress: bool = True,
    workers: int = 0,
    **fabric,
) -> History:
    """Train `model` on `data` and return the History of its losses; the model is left in eval mode.

    Args:
        data: a tensor (n, *event_shape), a tuple of tensors, a Dataset, or a Distribution (fresh samples at every step).
        steps, epochs: how long, one of the two.
        batch_size: rows per step (and per process).
        lr: learning rate, for all players or by player's name.
        optimizer: `f(parameters, lr=…)`, for all players or by name; Adam unless said otherwise.
        schedule: factor on the learning rate as a function of the fraction of the run that is done, e.g. `cosine()`.
        clip: largest gradient norm of a player.
        ema: decay of an exponential moving average of the weights, for all players or by name; in the end the model holds
            the averages.
        callback: called as `callback(step, model)` after every step; a true return value ends the run.
        checkpoint: file for the state of the run, written atomically at the start, every `checkpoint_every` steps and at
            the end; if it is there already and `resume` is true, the run goes on from it.
        seed: of batches and noise. The caller's random state is left as it was.
        workers: processes that read a Dataset ahead (see `training.feed.batches` for what that means for resuming).
        fabric: `accelerator, devices, num_nodes, strategy, precision` of `lightning.fabric.Fabric`.

    Raises:
        ValueError: settings or data that don't fit the model, each named.
        FloatingPointError: a loss that is not finite, naming player, step and last checkpoint.
        CheckpointError: a checkpoint that is broken or belongs to another run.
    """
    run_on = engine(model, **fabric)
    if isinstance(data, Sequence) and len(data) == 1:
        data = data[0]
    share = Share(check_count(batch_size, "batch_size"), seed, run_on.global_rank, run_on.world_size)
    total = _total_steps(data, share, steps, epochs)
    _check(model, data)
    players = model.players()
    stage = Table(model, players)
    table = run_on.setup_module(stage)
    moves = [Move(p, players, run_on, _of(lr, p), _of(optimizer, p), _of(ema, p)) for p in players]
    settings = {"model": type(model).__name__, "rows": size(data), "batch_size": batch_size, "seed": seed}
    settings |= {"processes": run_on.world_size, "players": {m.name: _kind(m) for m in moves}}
    state = RunState(checkpoint, settings, model, moves, run_on)
    ledger = Ledger([p.name for p in players], run_on, state.where)
    before = state.read(ledger) if resume else ledger.history(0, 0.0)
    model.train()
    table.train()
    with (
        torch.random.fork_rng(devices=[run_on.device] if run_on.device.type == "cuda" else []),
        playing(model, moves),
        Progress(type(model).__name__, total - before.steps, show=progress and run_on.is_global_zero) as bar,
    ):
        if before.steps == 0:
            state.write(before)
        feed = batches(data, share, before.steps, total, workers=workers)
        done = before.steps
        while done < total:
            reseed(run_on.device, seed, run_on.global_rank, done)
            stage.deal(_to(run_on.device, next(feed)))
            for turn, move in enumerate(moves):
                if done % move.every == 0:
                    with move:
                        loss = table(turn)
                        ledger.add(move.name, done, loss)
                        move.make(loss, table, clip, schedule(done / total) if schedule else None)
            done += 1
            end = bool(callback and callback(done, model)) or done == total
            bar.advance(note=ledger.summary() if end or done % 50 == 0 else None)
            if end or done % checkpoint_every == 0:
                ledger.settle()
                state.write(ledger.history(done, before.seconds + bar.seconds))
            if end:
                break
        history = ledger.history(done, before.seconds + bar.seconds)
    for move in moves:
        move.keep_average()
    model.eval()
    return history


def cosine(warmup: float = 0.0) -> Callable[[float], float]:
    """Schedule: linear from 0 to 1 over the fraction `warmup` of the run, then half a cosine down to 0.

    >>> round(cosine()(0.5), 6)
    0.5
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must lie in [0, 1); got {warmup}")

    def factor(done: float) -> float:
        if done < warmup:
            return done / warmup
        return 0.5 + 0.5 * math.cos(math.pi * (done - warmup) / (1 - warmup))

    return factor


def _total_steps(data: Data, share: Share, steps: int | None, epochs: int | None) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError(f"give either steps or epochs; got steps={steps}, epochs={epochs}")
    n = size(data)
    if steps is not None:
        return check_count(steps, "steps")
    if n is None:
        raise ValueError("epochs needs data of finite size; a Distribution never ends, give steps instead")
    return check_count(epochs, "epochs") * share.steps_per_epoch(n)


def _check(model: Trainable, data: Data) -> None:
    """Data that don't fit the model are refused before the first step, as far as they can be looked at without drawing."""
    if isinstance(data, Tensor):
        model.check_data(data)
    elif isinstance(data, Distribution) and tuple(data.event_shape) != tuple(model.event_shape):
        wanted, came = tuple(model.event_shape), tuple(data.event_shape)
        raise ValueError(f"data must have event shape {wanted} for {type(model).__name__}; got {came}")
    elif isinstance(data, Sequence):
        model.check_data(data[0])
    wanted, came = {p.dtype for p in model.parameters()}, data.dtype if isinstance(data, Tensor) else None
    if came is not None and wanted and came not in wanted:
        raise ValueError(f"data must have the model's dtype, {next(iter(wanted))}; got {came}")


def _of(setting, player: Player):
    """A setting that is given for all players, or by name."""
    if not isinstance(setting, Mapping):
        return setting
    if player.name not in setting:
        raise ValueError(f"no setting for player {player.name!r}; got settings for {sorted(setting)}")
    return setting[player.name]


def _kind(move: Move) -> str:
    """What a resumed run must share with the one before: the kind of optimiser, and whether averages are kept."""
    return type(move.optimizer).__name__ + (" with moving average" if move.average is not None else "")


def _to(device: torch.device, batch):
    return batch.to(device) if isinstance(batch, Tensor) else tuple(b.to(device) for b in batch)
