"""The training game: players round one table, each with an optimiser, a learning rate and perhaps a moving average."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from gmcourse.model import Player, Trainable
from gmcourse.training.engine import Plain


class Table(nn.Module):
    """All players' losses as one module: after `deal(batch)`, called with whose turn it is, it gives that player's loss.

    One module means one wrapper: mixed precision and DDP see every loss, whoever's it is. The batch is no argument of
    `forward`, so that mixed precision does not round the data themselves.
    """

    def __init__(self, model: Trainable, players: Sequence[Player]):
        super().__init__()
        self.model = model
        self.players = players

    def deal(self, batch: Tensor | tuple[Tensor, ...]) -> None:
        """Lay a batch on the table: what all players see until the next one."""
        self.batch = batch

    def forward(self, turn: int) -> Tensor:
        """Mean loss of the player whose turn it is, a scalar."""
        return self.players[turn].loss(self.batch).mean()


class Move:
    """One player's way of moving. As a context it holds the other players' parameters still.

    Args:
        player, players: who moves, among whom.
        run_on: the engine.
        optimizer: `f(parameters, lr=…)`, Adam if None.
        ema: decay of the moving average of the parameters, none if None.
    """

    def __init__(
        self, player: Player, players: Sequence[Player], run_on, lr: float, optimizer: Callable | None, ema: float | None
    ):
        self.name, self.every, self.run_on = player.name, player.every, run_on
        self.parameters = [p for p in player.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError(f"player {player.name!r} has no parameters to train")
        if not lr > 0:
            raise ValueError(f"lr must be positive; got {lr} for player {player.name!r}")
        if ema is not None and not 0 <= ema < 1:
            raise ValueError(f"ema must lie in [0, 1); got {ema} for player {player.name!r}")
        own = {id(p) for p in self.parameters}
        self.others = [p for q in players for p in q.parameters() if p.requires_grad and id(p) not in own]
        adam = partial(torch.optim.Adam, fused=isinstance(run_on, Plain))  # a fused step can't be clipped under a scaler
        self.optimizer = (optimizer or adam)(self.parameters, lr=lr)
        self._wrapped = run_on.setup_optimizers(self.optimizer)
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        self.average = None
        if ema is not None:
            self.average = AveragedModel(nn.ParameterList(self.parameters), multi_avg_fn=get_ema_multi_avg_fn(ema))

    def __enter__(self):
        for p in self.others:
            p.requires_grad_(False)

    def __exit__(self, *error):
        for p in self.others:
            p.requires_grad_(True)

    def make(self, loss: Tensor, table: nn.Module, clip: float | None, rate: float | None) -> None:
        """Gradient, clipping, one optimiser step at `rate` times the learning rate, and the moving average."""
        if rate is not None:
            for group, base in zip(self.optimizer.param_groups, self._rates, strict=True):
                group["lr"] = base * rate
        self.optimizer.zero_grad()
        self.run_on.backward(loss)
        if clip is not None:
            self.run_on.clip_gradients(table, self._wrapped, max_norm=clip, error_if_nonfinite=False)
        self._wrapped.step()
        if self.average is not None:
            self.average.update_parameters(nn.ParameterList(self.parameters))

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the player's parameters are their moving averages, where one is kept."""
        live = [] if self.average is None else [p.detach().clone() for p in self.parameters]
        self.keep_average()
        try:
            yield
        finally:
            with torch.no_grad():
                for p, value in zip(self.parameters, live, strict=False):  # none where there is no average
                    p.copy_(value)

    @torch.no_grad()
    def keep_average(self) -> None:
        """Let the player's parameters be their moving averages, where one was kept."""
        if self.average is not None:
            for p, mean in zip(self.parameters, self.average.module, strict=True):
                p.copy_(mean)


_playing: WeakKeyDictionary[nn.Module, Sequence[Move]] = WeakKeyDictionary()  # who moves in the trainings that are under way


@contextmanager
def playing(model: Trainable, moves: Sequence[Move]) -> Iterator[None]:
    """Within, the model's moves are known to `averaged`."""
    _playing[model] = moves
    try:
        yield
    finally:
        del _playing[model]


@contextmanager
def averaged(model: Trainable) -> Iterator[None]:
    """Within, a model that is being trained holds the moving averages of its weights, where `fit` keeps them: what it would
    be left with if the run ended now."""
    with ExitStack() as stack:
        for move in _playing.get(model, ()):
            stack.enter_context(move.averaged())
        yield
