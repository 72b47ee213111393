r"""How many steps fit into so many seconds: found once on a throw-away copy, so that all seeds make the same number.

    steps = budget / time per step

The time per step is a mean, since steps may cost by chance (a lazy penalty), after a first quarter that warms up. On the CPU
the clock stands still while another program has the core, so that a busy machine affords as many steps as an idle one, and
takes longer over them. Every player's moves count as often as they are made. Steps, unlike seconds, can be repeated: a row
that is made again with the same steps has the same numbers.
"""

import math
import time

import torch

from gmcourse.fit import fit
from gmcourse.metrics.scoreboard import wait_for
from gmcourse.model import Trainable
from gmcourse.recipes import Recipe
from gmcourse.training.feed import Data

TURNS = 8  # of all players, at least
SECONDS = 2.0  # about as long as that, where the turns allow
ENDLESS = 10**7


def affordable_steps(recipe: Recipe, data: Data, budget: float, device: str | torch.device = "cpu") -> int:
    """How many steps of the recipe take `budget` seconds on the device; at least one of each player's moves."""
    model = recipe.build().to(device)
    turn = math.lcm(*(player.every for player in model.players()))
    return max(turn, int(budget / seconds_per_step(model, recipe, data, turn, min(SECONDS, 0.2 * budget))))


def seconds_per_step(model: Trainable, recipe: Recipe, data: Data, turn: int, patience: float) -> float:
    """Mean seconds per step; trains the model for `patience` seconds and for `TURNS` turns of all players."""
    here = next(model.parameters()).device
    clock = time.thread_time if here.type == "cpu" else time.perf_counter
    times = [clock()]

    def tick(step: int, _: Trainable) -> bool:
        if step % turn == 0:
            wait_for(here)
            times.append(clock())
        return len(times) > TURNS and times[-1] - times[0] > patience

    settings = {k: v for k, v in recipe.fit.items() if k not in ("epochs", "steps", "checkpoint_every")}
    fit(model, data, **settings, steps=ENDLESS, callback=tick, progress=False)
    warm = times[len(times) // 4 :]
    return (warm[-1] - warm[0]) / (turn * (len(warm) - 1))
