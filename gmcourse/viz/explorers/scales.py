"""Axes drawn by hand: numbers as places from 0 to 1, linearly or by their logarithm, with ticks and words.

For explorers whose scales change from picture to picture while the axes stand still.
"""

import math
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.ticker import MaxNLocator

from gmcourse.viz import style


class Scale(NamedTuple):
    """One column's axis: the same for single rows and for means."""

    words: str
    direction: str
    limits: tuple[float, float]
    log: bool
    floor: float

    def unit(self, values: np.ndarray) -> np.ndarray:
        """Values as places between the limits, 0 … 1; what a logarithm cannot show is at 0."""
        low, high = self.limits
        return np.log(np.maximum(values, low) / low) / math.log(high / low) if self.log else (values - low) / (high - low)

    def ticks(self) -> np.ndarray:
        """About five round numbers; or powers of ten, with threefold ones where there are few."""
        low, high = self.limits
        ticks = MaxNLocator(5).tick_values(low, high)
        if self.log:
            ticks = 10.0 ** np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)))
            if ((low <= ticks) & (ticks <= high)).sum() < 4:
                ticks = np.outer(ticks, (1, 3)).ravel()
        return ticks[(low <= ticks) & (ticks <= high)]


def short(value: float) -> str:
    """A number in few letters.

    >>> short(0.01234), short(2500), short(25000), short(1.2e6)
    ('0.0123', '2500', '25k', '1.2M')
    """
    if abs(value) >= 1e6:
        return f"{value / 1e6:.3g}M"
    if abs(value) >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def draw_scales(ax: Axes, across: Scale, up: Scale, note: str) -> None:
    """Ticks, words and floors of two scales, with a note below, on axes from 0 to 1."""
    x, y = ([(at, short(tick)) for at, tick in zip(s.unit(s.ticks()), s.ticks(), strict=True)] for s in (across, up))
    marks = [((at, 0), (at, -0.014)) for at, _ in x] + [((0, at), (-0.011, at)) for at, _ in y]
    ax.add_collection(LineCollection(marks, colors=style.INK, linewidths=1, clip_on=False), autolim=False)
    for at, words in x:
        ax.text(at, -0.03, words, ha="center", va="top", fontsize=10)
    for at, words in y:
        ax.text(-0.022, at, words, ha="right", va="center", fontsize=10)
    ax.text(0.5, -0.1, f"{across.words}   {across.direction}", ha="center", va="top", fontsize=11)
    ax.text(0.5, -0.17, note, ha="center", va="top", fontsize=10, color="0.35")
    ax.text(-0.12, 0.5, f"{up.words}   {up.direction}", ha="right", va="center", rotation=90, fontsize=11)
    a, b = across.unit(across.floor), up.unit(up.floor)
    floors = LineCollection([((a, 0), (a, 1)), ((0, b), (1, b))], colors="0.5", linestyles="--", linewidths=1)
    ax.add_collection(floors, autolim=False)
