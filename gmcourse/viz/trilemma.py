r"""The picture of the trilemma with measured axes (thesis figures 6.1 and 6.5): quality against speed, coverage as colour.

Left, every model is a point: to the right is faster, up is better, the darker the more of the data is covered; bars are
standard deviations over seeds, and the dashed line is how near two sets of true samples come. Right, one column for each
corner, a row for each model, a dot for each seed.
"""

import io
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from matplotlib.transforms import Bbox

from gmcourse.metrics.scoreboard import Board, Line, Row, quality
from gmcourse.viz import style

MARKERS = "osD^vP*X"
LEAST = 5e-4  # distance that a logarithmic axis shows: one sample of 2000
SIDES = [  # where a name may stand: offset in points, alignment
    ((dx, dy), (ha, va))
    for far in (1, 2, 3)
    for (dx, dy), (ha, va) in (
        ((10 * far, 0), ("left", "center")),
        ((-10 * far, 0), ("right", "center")),
        ((0, 10 * far), ("center", "bottom")),
        ((0, -10 * far), ("center", "top")),
        ((8 * far, 8 * far), ("left", "bottom")),
        ((8 * far, -8 * far), ("left", "top")),
        ((-8 * far, 8 * far), ("right", "bottom")),
        ((-8 * far, -8 * far), ("right", "top")),
    )
]
QUALITY = {"outside": "share of samples outside of the data", "FID": "Fréchet distance of features"}


class Picture(Figure):
    """A figure that a notebook shows as it is, also before pyplot has been used."""

    def _repr_png_(self) -> bytes:
        page = io.BytesIO()
        self.savefig(page, format="png", dpi=style.DPI)
        return page.getvalue()


def trilemma_figure(board: Board) -> Picture:
    """The figure of a board of one data set. ValueError for an empty board, or one of several data sets."""
    if len({row.data for row in board.rows}) != 1:
        raise ValueError(f"board must hold rows of one data set; got {sorted({row.data for row in board.rows})}")
    summary = board.summary()
    marker = {line.model: MARKERS[k % len(MARKERS)] for k, line in enumerate(summary)}
    lines = sorted(summary, key=lambda line: line["ms_per_1000"])
    with style.context():
        figure = Picture(figsize=(12.0, 0.45 * len(lines) + 2.6))
        plane, *corners = figure.subplots(1, 4, gridspec_kw={"width_ratios": (5, 2, 2, 2)})
        _plane(plane, lines, marker)
        for ax, corner in zip(corners, ("quality", "coverage", "ms_per_1000"), strict=True):
            _corner(ax, board.rows, lines, corner)
        corners[0].set_yticks(range(len(lines)), _names(lines))
        figure.suptitle(f"The trilemma on {lines[0].data.replace('_', ' ')}")
    return figure


def coverage(row: Row) -> float:
    """Share of the modes that are covered; recall where the data have no modes."""
    return row.recall if row.modes is None else row.covered / row.modes


def _plane(ax: Axes, lines: Sequence[Line], marker: Mapping[str, str]) -> None:
    places, (name, _, floor, _) = [], quality(lines[0])
    for line in lines:
        far = quality(line)
        at = (line["ms_per_1000"], max(far.value, LEAST))
        bars = _within(line.spread["ms_per_1000"], at[0]), _within(far.spread, at[1])
        ax.errorbar(*at, xerr=bars[0], yerr=bars[1], color="0.6", linewidth=1, zorder=1)
        share = line["recall"] if line["modes"] is None else line["covered"] / line["modes"]
        look = {"marker": marker[line.model], "s": 130, "vmin": 0.5, "vmax": 1, "edgecolors": style.INK}
        dots = ax.scatter(*at, c=[share], cmap=style.DENSITY.name, zorder=2, **look)
        places.append(at)
    if floor:
        ax.axhline(floor, color=style.INK, linestyle="--", linewidth=1, zorder=0)
        where = {"xycoords": ("axes fraction", "data"), "xytext": (2, 3), "textcoords": "offset points"}
        ax.annotate("two sets of true samples", (0.0, floor), **where, fontsize=9)
    _logarithmic(ax.xaxis, ax.set_xscale, [x for x, _ in places])
    _logarithmic(ax.yaxis, ax.set_yscale, [y for _, y in places] + [floor] * bool(floor))
    ax.margins(0.15)
    ax.invert_xaxis()
    ax.invert_yaxis()
    ax.set(xlabel="ms per 1000 samples (faster →)", ylabel=f"{QUALITY[name]} (better →)")
    what = "recall" if lines[0]["modes"] is None else "share of modes covered"
    ax.figure.colorbar(dots, ax=ax, label=what, pad=0.01, aspect=30, extend="min")
    ax.figure.draw_without_rendering()
    label_apart(ax, places, _names(lines))


def label_apart(ax: Axes, places: Sequence[tuple[float, float]], names: Sequence[str]) -> list[Annotation]:
    """Names beside their places, each on the first of several sides where it covers no other name or place."""
    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    taken = [Bbox.from_bounds(x - 8, y - 8, 16, 16) for x, y in ax.transData.transform(places)]
    frame, labels = ax.get_window_extent(renderer), []
    for place, name in zip(places, names, strict=True):
        label = ax.annotate(name, place, (0, 0), textcoords="offset points", fontsize=10)
        free = False
        for (dx, dy), (ha, va) in SIDES:
            label.set(position=(dx, dy), ha=ha, va=va)
            box = label.get_window_extent(renderer)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
            if free := inside and not any(box.overlaps(other) for other in taken):
                break
        if not free:
            label.set(position=SIDES[0][0], ha=SIDES[0][1][0], va=SIDES[0][1][1])
        taken.append(label.get_window_extent(renderer))
        labels.append(label)
    return labels


def _corner(ax: Axes, rows: Sequence[Row], lines: Sequence[Line], column: str) -> None:
    values = {line.model: [_value(row, column) for row in rows if row.model == line.model] for line in lines}
    for k, line in enumerate(lines):
        own = values[line.model]
        ax.plot(own, [k] * len(own), ".", color=style.BLUE, alpha=0.5, markersize=7)
        ax.plot(sum(own) / len(own), k, "|", color=style.INK, markersize=14, markeredgewidth=2)
    if column == "coverage":
        ax.set(xlim=(min(0.9, *(min(v) for v in values.values())) - 0.05, 1.05))
        ax.set(title="coverage", xlabel="recall →" if rows[0].modes is None else "modes →")
    else:
        _logarithmic(ax.xaxis, ax.set_xscale, [v for own in values.values() for v in own])
        ax.invert_xaxis()
        ax.set(title="speed", xlabel="ms per 1000 →")
        if column == "quality":
            ax.set(title="quality", xlabel=f"{quality(lines[0]).name} →")
    ax.margins(0.12)
    ax.set_ylim(len(lines) - 0.5, -0.5)
    ax.set_yticks(range(len(lines)), [""] * len(lines))
    ax.grid(axis="y")


def _value(row: Row, column: str) -> float:
    if column == "quality":
        return max(quality(row).value, LEAST)
    return coverage(row) if column == "coverage" else row.ms_per_1000


def _names(lines: Sequence[Line]) -> list[str]:
    """Families, where they tell the models apart, else the names of the models."""
    families = [line.family for line in lines]
    return families if len(set(families)) == len(families) else [line.model for line in lines]


def _within(spread: float | None, value: float) -> float:
    """A standard deviation that stays above 0 on a logarithmic axis."""
    return min(spread or 0.0, 0.9 * value)


def _logarithmic(axis, set_scale, values: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers, also where it spans less than a decade."""
    set_scale("log")
    ratio = max(values) / min(values)
    decades = LogLocator(subs=(1.0,) if ratio > 100 else (1.0, 3.0), numticks=5)
    axis.set_major_locator(MaxNLocator(4) if ratio < 5 else decades)
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
