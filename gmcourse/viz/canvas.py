"""One figure, drawn again and again: how an explorer gets a picture in milliseconds.

Making a matplotlib figure with its axes, ticks and text takes about 100 ms, so a `Canvas` makes one, away from
pyplot, and keeps it. Without a backdrop the axes are cleared and all is drawn anew for each picture. With a
backdrop (axes, labels, whatever stands still) that part is drawn once and its pixels are kept: each picture copies
them back and draws only the artists that `draw` has added, on top of what stands still but within the frame's
lines. Nothing of an earlier picture can shine through: added artists are taken out again, limits, title and labels
go back to the backdrop's, and the colour cycle starts afresh, so equal data give equal bytes.
"""

import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gmcourse.viz import style
from gmcourse.viz.mosaic import png


def _frame(ax: Axes) -> dict:
    """What `draw` may change about an axes besides adding artists to it."""
    return {
        "xlim": ax.get_xlim(),
        "ylim": ax.get_ylim(),
        "aspect": ax.get_aspect(),
        "title": ax.get_title(),
        "xlabel": ax.get_xlabel(),
        "ylabel": ax.get_ylabel(),
    }


class Canvas:
    """Pictures of `size` (width, height in inches at 80 dpi) with `panels` (rows, columns) axes.

    `draw(axes, data)` and `backdrop(axes)` get the one Axes, or the list of them, row by row, where there
    are several. The first data (or the backdrop) settle where the axes lie; they then stay put.
    """

    def __init__(
        self,
        draw: Callable[[Any, Any], Any],
        first: Callable[[], Any],
        backdrop: Callable[[Any], Any] | None = None,
        panels: tuple[int, int] = (1, 1),
        size: tuple[float, float] = (5.0, 4.0),
    ):
        self._draw = draw
        self.figure = Figure(figsize=size, dpi=style.DPI, layout="constrained")
        self._canvas = FigureCanvasAgg(self.figure)
        self._still: list[set] | None = None
        with style.context():
            self._panels: Sequence[Axes] = list(self.figure.subplots(*panels, squeeze=False).flat)
            self._axes = self._panels[0] if len(self._panels) == 1 else self._panels
            if backdrop is None:
                draw(self._axes, first())
            else:
                backdrop(self._axes)
            self._canvas.draw()
            self.figure.set_layout_engine("none")
            if backdrop is not None:
                self._keep_backdrop()

    def picture(self, data: Any) -> bytes:
        """The PNG of `data`."""
        with style.context():
            drawn = self._redraw(data) if self._still is None else self._draw_over_backdrop(data)
        return png(drawn)

    def _pixels(self) -> np.ndarray:
        return np.asarray(self._canvas.buffer_rgba())[..., :3]

    def _redraw(self, data: Any) -> np.ndarray:
        for extra in set(self.figure.axes) - set(self._panels):
            extra.remove()
        for ax in self._panels:
            ax.clear()
        result = self._draw(self._axes, data)
        if isinstance(result, np.ndarray):
            return result
        self._canvas.draw()
        return self._pixels()

    def _keep_backdrop(self) -> None:
        self._still = [set(ax.get_children()) for ax in self._panels]
        self._frames = [_frame(ax) for ax in self._panels]
        self._spines = [[s for s in ax.spines.values() if s.get_visible()] for ax in self._panels]
        for ax in self._panels:
            ax.set_autoscale_on(False)
        self._photograph([])

    def _photograph(self, added: list) -> None:
        hidden = [*added, *(spine for spines in self._spines for spine in spines)]
        for artist in hidden:
            artist.set_visible(False)
        self._canvas.draw()
        for artist in hidden:
            artist.set_visible(True)
        self._region = self._canvas.copy_from_bbox(self.figure.bbox)
        self._shown = [_frame(ax) for ax in self._panels]

    def _added(self) -> list[list]:
        return [
            sorted((a for a in ax.get_children() if a not in still), key=lambda a: a.get_zorder())
            for ax, still in zip(self._panels, self._still, strict=True)
        ]

    def _draw_over_backdrop(self, data: Any) -> np.ndarray:
        for artists in self._added():
            for artist in artists:
                artist.remove()
        for ax, frame in zip(self._panels, self._frames, strict=True):
            ax.set_prop_cycle(None)
            if _frame(ax) != frame:
                ax.set(**frame)
        result = self._draw(self._axes, data)
        if isinstance(result, np.ndarray):
            return result
        added = self._added()
        if [_frame(ax) for ax in self._panels] != self._shown:
            self._photograph([a for artists in added for a in artists if a.get_visible()])
        self._canvas.restore_region(self._region)
        for ax, artists, spines in zip(self._panels, added, self._spines, strict=True):
            for artist in artists + spines:
                ax.draw_artist(artist)
        return self._pixels()


def message(text: str, size: tuple[float, float]) -> bytes:
    """A PNG of `size` inches that says `text`: what stands where a picture could not be drawn."""
    figure = Figure(figsize=size, dpi=style.DPI)
    canvas = FigureCanvasAgg(figure)
    columns = int(size[0] * 72 / (10 * 0.62)) - 4  # a monospaced letter of 10 points is about 6.2 points wide
    lines = [piece for line in text.splitlines() for piece in textwrap.wrap(line, columns) or [""]]
    with style.context():
        look = {"family": "monospace", "size": 10, "color": style.VERMILION, "parse_math": False}
        figure.text(0.03, 0.95, "\n".join(lines), va="top", **look)
        canvas.draw()
    return png(np.asarray(canvas.buffer_rgba())[..., :3])
