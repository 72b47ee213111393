"""The generative learning trilemma, measured (thesis chapter 6, figures 6.1 and 6.5): any two numbers of the scoreboard.

No family is at once good, diverse and fast, says the thesis. A `Board` has measured each, so a reader can look himself:
two numbers make a plane, a model and its seed a point, a third number the point's area; families are colours.

    quality     W₂ or feature-FID to the data, precision, samples within 4σ of a mode
    diversity   modes covered, KL of the modes, recall
    speed       milliseconds per 1000 samples, network evaluations per sample
    likelihood  the gap to the truth in nats, where a model has a density or a bound on it

Axes are logarithmic where all values are positive and the largest is `LOG` times the smallest. Over seeds, points become
means with the standard deviation. What has no number on an axis cannot be drawn and is named below it.

Scales change from picture to picture, so they are drawn by hand into axes that stand still, from 0 to 1 both ways.
"""

import io
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.transforms import IdentityTransform
from PIL import Image
from torch import Tensor

from gmcourse.data import toy2d
from gmcourse.metrics.scoreboard import Board, Row
from gmcourse.viz import style
from gmcourse.viz.controls import Choice
from gmcourse.viz.explorer import Explorer, Hotspot
from gmcourse.viz.explorers.scales import Scale, draw_scales, short
from gmcourse.viz.mosaic import enlarge, mosaic_array, png
from gmcourse.viz.plane import Extent, around, on_grid
from gmcourse.viz.plots import draw_density

LOG = 20.0  # a larger ratio asks for a logarithmic axis
SMALLEST, EQUAL, LARGEST = 40.0, 110.0, 320.0  # areas in points²
LETTER, LINE = 6.3, 13.0  # pixels that a name takes
NEAR = 7.0  # pixels: the least radius that answers the pointer
COLUMNS = {  # in words, and whether more of it is better (1), less (−1) or neither (0)
    **{"w2": ("W₂", -1), "fid": ("feature-FID", -1), "precision": ("precision", 1), "within": ("share within 4σ", 1)},
    **{"covered": ("modes covered", 1), "mode_kl": ("KL of the modes, nats", -1), "recall": ("recall", 1)},
    **{"ms_per_1000": ("ms per 1000 samples", -1), "nfe": ("evaluations per sample", -1)},
    **{"gap": ("likelihood gap, nats", -1), "parameters": ("parameters", -1)},
    **{"seconds": ("training, s", -1), "steps": ("training steps", 0)},
}
FLOORS = {"w2": "w2_floor", "fid": "fid_of_data"}  # what true samples have
DIRECTIONS = {1: "better →", -1: "← better", 0: ""}
SPEED, QUALITY, DIVERSITY = ("ms_per_1000", "nfe"), ("fid", "precision", "w2"), ("covered", "recall", "mode_kl")
FAMILIES = ("VAE", "flow", "EBM", "diffusion", "GAN")


class Mark(NamedTuple):
    """One point of the scatter, a row or all seeds of a model; `mean` and `sd` by column, NaN for n/a."""

    model: str
    name: str
    family: str
    words: str
    mean: dict[str, float]
    sd: dict[str, float]
    gap_kind: str
    key: str


class Scene(NamedTuple):
    """What is drawn: marks, where (n, 2) and how large (n,); models' names, where (k, 2) and how far from there (k,)."""

    marks: list[Mark]
    xy: np.ndarray
    areas: np.ndarray
    bars: np.ndarray  # (m, 2, 2), from … to
    names: list[str]
    anchors: np.ndarray
    gaps: np.ndarray
    columns: tuple[str, str, str]
    note: str
    look: str


def number(value: float | None) -> float:
    """A cell of the board as a float, NaN where there is none."""
    return float(value) if value is not None and math.isfinite(value) else math.nan


def columns_of(board: Board) -> list[str]:
    """The board's columns with numbers in them; ValueError for a board that no plane can show."""
    if not board.rows:
        raise ValueError("board must have at least one row; got none")
    if len(data := sorted({row.data for row in board.rows})) > 1:
        raise ValueError(f"board must be of one data set, numbers of several do not compare; got {', '.join(data)}")
    found = [c for c in COLUMNS if not all(math.isnan(number(getattr(row, c))) for row in board.rows)]
    if len(found) < 2:
        raise ValueError(f"board must have numbers in at least two columns; got {', '.join(found) or 'none'}")
    return found


def mark(rows: Sequence[Row], columns: Iterable[str]) -> Mark:
    """Mean and standard deviation of each column over rows of one model."""
    first, mean, sd = rows[0], {}, {}
    for column in columns:
        values = np.array([number(getattr(row, column)) for row in rows])
        values = values[~np.isnan(values)]
        mean[column] = float(values.mean()) if len(values) else math.nan
        sd[column] = float(values.std(ddof=1)) if len(values) > 1 else math.nan
    words = f"seed {first.seed}" if len(rows) == 1 else f"mean of {len(rows)} seeds"
    name = first.model.removesuffix(f"_{first.data}")
    return Mark(first.model, name, first.family or "other", words, mean, sd, first.gap_kind, first.key)


def scale(column: str, marks: Sequence[Mark], words: str, floor: float) -> Scale:
    """An axis with room for all marks and their deviations, and for the floor (NaN: none)."""
    values = np.array([[m.mean[column] + side * np.nan_to_num(m.sd[column]) for side in (0, -1, 1)] for m in marks])
    means = values[:, 0]
    log = bool(np.nanmin(means) > 0 and np.nanmax(means) > LOG * np.nanmin(means))
    values = np.append(values, floor)
    values = np.log10(values[values > 0]) if log else values[~np.isnan(values)]
    room = 0.12 * np.ptp(values) or 0.1 * abs(values[0]) or 0.5
    ends = float(values.min() - room), float(values.max() + room)
    return Scale(words, DIRECTIONS[COLUMNS[column][1]], (10 ** ends[0], 10 ** ends[1]) if log else ends, log, floor)


def radius(areas: np.ndarray) -> np.ndarray:
    """Of discs of these areas as `scatter` understands them (diameter² in points²), in pixels."""
    return areas**0.5 / 2 * style.DPI / 72


def pixels(ax: Axes, xy: np.ndarray) -> np.ndarray:
    """Places (n, 2) on the axes as pixels from the picture's left and upper edge."""
    across, up = ax.transData.transform(xy).reshape(-1, 2).T
    return np.stack((across, ax.figure.bbox.height - up), 1)


def place(names: Sequence[str], xy: np.ndarray, gaps: np.ndarray, discs: np.ndarray, frame: np.ndarray) -> list[tuple]:
    """Corners (left, top) of a name beside each of xy (n, 2), `gaps` (n,) away: one after the other where it is free.

    All in pixels. `discs` (m, 4) are boxes (left, top, right, bottom) to leave free, `frame` is the one to stay in.
    """
    corners, taken = [], discs
    for name, (x, y), gap in zip(names, xy, gaps, strict=True):
        w, h = LETTER * len(name), LINE
        tries = [(x + gap, y - h / 2), (x - gap - w, y - h / 2)]
        tries += [(at, y + turn) for turn in (-gap - h, gap, -gap - 2 * h, gap + h) for at in (x - w / 2, x, x - w)]
        boxes = np.array([(left, top, left + w, top + h) for left, top in tries])
        shared = np.minimum(boxes[:, None, 2:], taken[:, 2:]) - np.maximum(boxes[:, None, :2], taken[:, :2])
        outside = (boxes[:, :2] < frame[:2]).any(1) | (boxes[:, 2:] > frame[2:]).any(1)
        best = int((shared.clip(0).prod(-1).sum(1) + 1e3 * outside).argmin())
        corners.append(tries[best])
        taken = np.concatenate((taken, boxes[best : best + 1]))
    return corners


def window(data: str, samples: Iterable[Tensor]) -> Extent:
    """Where the toy of that name lives, or the samples themselves."""
    if data in toy2d.NAMES:
        return toy2d.get(data).extent
    points = np.concatenate([x.numpy() for x in samples])
    return around(points[np.isfinite(points).all(1)])


def thumbnail(samples: Tensor, extent: Extent | None) -> bytes:
    """A PNG about 120 pixels wide of points (n, 2) in the extent, or of images (n, c, h, w)."""
    if extent is not None:
        x, y = samples.numpy().T
        counts = np.histogram2d(-y, x, bins=60, range=((-extent[3], -extent[2]), extent[:2]))[0]
        shade = np.minimum(counts / 2, 1)[..., None]
        white, ink = np.full(3, 255.0), np.array([int(style.VERMILION[k : k + 2], 16) for k in (1, 3, 5)])
        return png(enlarge((white + shade * (ink - white)).astype(np.uint8), 2))
    page = mosaic_array(samples)
    page = Image.fromarray(enlarge(page, max(1, 120 // page.shape[1])))
    page.thumbnail((120, 120))
    file = io.BytesIO()
    page.quantize(16).save(file, "png", optimize=True)
    return file.getvalue()


def told(mark: Mark, scales: dict[str, Scale]) -> str:
    """All numbers of a mark in lines."""
    lines = [f"{mark.name} · {mark.words}", mark.family]
    for column, value in mark.mean.items():
        spread = "" if math.isnan(mark.sd[column]) else f" ± {short(mark.sd[column])}"
        kind = f" ({mark.gap_kind})" if column == "gap" else ""
        lines += [] if math.isnan(value) else [f"{scales[column].words}: {short(value)}{spread}{kind}"]
    return "\n".join(lines)


def write_names(ax: Axes, scene: Scene) -> None:
    """Models' names beside their marks."""
    discs, radii = pixels(ax, scene.xy), radius(scene.areas)[:, None] + 1
    boxes, height = np.concatenate((discs - radii, discs + radii), 1), ax.figure.bbox.height
    frame = np.array([ax.bbox.x0, height - ax.bbox.y1, ax.bbox.x1 + 20, height - ax.bbox.y0])
    corners = place(scene.names, pixels(ax, scene.anchors), scene.gaps, boxes, frame)
    for name, (left, top) in zip(scene.names, corners, strict=True):
        where = {"transform": IdentityTransform(), "va": "top", "zorder": 5, "fontsize": 9, "parse_math": False}
        ax.text(left, height - top, name, **where)


class Scoreboard:
    """A board made ready: marks, scales, colours and small pictures."""

    def __init__(self, board: Board):
        self.columns = columns_of(board)
        seeds: dict[str, list[Row]] = {}
        for row in board.rows:
            seeds.setdefault(row.model, []).append(row)
        self.means = [mark(rows, self.columns) for rows in seeds.values()]
        self.rows = [mark([row], self.columns) for rows in seeds.values() for row in rows]
        modes = {row.modes for row in board.rows} - {None}
        words = {c: COLUMNS[c][0] for c in self.columns} | ({"covered": f"modes covered (of {max(modes)})"} if modes else {})
        floors = {c: np.mean([number(getattr(row, floor)) for row in board.rows]) for c, floor in FLOORS.items()}
        self.scales = {c: scale(c, self.rows + self.means, words[c], floors.get(c, math.nan)) for c in self.columns}
        families = dict.fromkeys((*FAMILIES, *(m.family for m in self.means)))
        self.colours = dict(zip(families, style.PALETTE * 9, strict=False))
        self.samples = {key: x.detach().cpu().float() for key, x in board.samples.items()}
        if wrong := [f"{key} {tuple(x.shape)}" for key, x in self.samples.items() if x.ndim != 4 and x.shape[1:] != (2,)]:
            raise ValueError(f"samples must be points (n, 2) or images (n, c, h, w); got {', '.join(wrong)}")
        points = [x for x in self.samples.values() if x.ndim == 2]
        data = board.rows[0].data
        self.extent = window(data, points) if points else None
        known = points and data in toy2d.NAMES
        self.density = on_grid(toy2d.get(data).log_prob, self.extent, 100).exp() if known else None
        self.thumbnails = {key: thumbnail(x, self.extent) for key, x in self.samples.items()}
        self.pages = {key: mosaic_array(x) for key, x in self.samples.items() if x.ndim == 4}

    def first(self, wanted: Sequence[str], but: str = "") -> str:
        """The first of the wanted columns that the board has, or else any."""
        return next(c for c in (*wanted, *self.columns) if c in self.columns and c != but)

    def key(self, mark: Mark) -> str | None:
        """Where this mark's samples are: its own seed's or, for want of them, the first seed's that has any."""
        keys = [mark.key, *(m.key for m in self.rows if m.model == mark.model)]
        return next((key for key in keys if key in self.samples), None)

    def scene(self, x: str, y: str, size: str, seeds: str, look: str) -> Scene:
        """The marks that have both numbers, the largest first, so that none is hidden."""
        marks = [m for m in (self.means if seeds == "mean" else self.rows) if not math.isnan(m.mean[x] + m.mean[y])]
        areas, note = np.full(len(marks), EQUAL), []
        if size in self.scales:
            values = np.array([m.mean[size] for m in marks])
            areas = SMALLEST + (LARGEST - SMALLEST) * np.nan_to_num(self.scales[size].unit(values))
            found = values[~np.isnan(values)]
            ends = " … ".join(dict.fromkeys(map(short, (found.min(), found.max())))) if len(found) else "n/a"
            note.append(f"area: {self.scales[size].words} {ends}")
        order = np.argsort(-areas, kind="stable")
        marks, areas = [marks[k] for k in order], areas[order]
        largest = {m.model: area for m, area in zip(marks[::-1], areas[::-1], strict=True)}
        shown = [m for m in self.means if m.model in largest]
        missing = [m.name for m in self.means if m.model not in largest]
        note += [f"no value: {', '.join(missing)}"] if missing else []
        bars = [np.stack([self.places(marks, x, y, *by) for by in (-k, k)], 1) for k in np.eye(2)]
        gaps = radius(np.array([largest[m.model] for m in shown])) + 4
        named = [m.name for m in shown], self.places(shown, x, y), gaps
        drawn = marks, self.places(marks, x, y), areas, np.concatenate(bars)
        return Scene(*drawn, *named, (x, y, size), " · ".join(note), look)

    def places(self, marks: Sequence[Mark], x: str, y: str, right: float = 0, up: float = 0) -> np.ndarray:
        """Where marks lie on the axes (n, 2), so many standard deviations further."""
        pairs = [[m.mean[c] + k * np.nan_to_num(m.sd[c]) for c, k in ((x, right), (y, up))] for m in marks]
        values = np.array(pairs).reshape(-1, 2)
        return np.stack((self.scales[x].unit(values[:, 0]), self.scales[y].unit(values[:, 1])), 1)

    def backdrop(self, axes: Sequence[Axes]) -> None:
        """Empty axes, the legend, the data's density."""
        axes[0].set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], xlabel=" \n \n \n ", ylabel=" \n \n \n ")
        families = [f for f in self.colours if any(m.family == f for m in self.means)]
        dots = [Line2D([], [], marker="o", linestyle="", color=self.colours[f], label=f) for f in families]
        beside = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "borderaxespad": 0.2}
        axes[0].legend(handles=dots, **beside, ncols=len(dots), columnspacing=1.0, handletextpad=0.0, fontsize=10)
        left, right, bottom, top = self.extent or (0, 1, 0, 1)
        axes[1].set(xlim=(left, right), ylim=(bottom, top), aspect="equal", xticks=[], yticks=[], title=" ")
        axes[1].spines[:].set_visible(False)
        if self.density is not None:
            draw_density(axes[1], self.density, self.extent)

    def draw(self, axes: Sequence[Axes], scene: Scene) -> None:
        """The scatter on the left, samples of one model on the right."""
        draw_scales(axes[0], *(self.scales[c] for c in scene.columns[:2]), scene.note)
        if scene.marks:
            self._draw_marks(axes[0], scene)
            write_names(axes[0], scene)
        else:
            axes[0].text(0.5, 0.5, "no model has both numbers", ha="center")
        self._draw_samples(axes[1], next(m for m in self.means if m.model == scene.look))

    def hotspots(self, axes: Sequence[Axes], scene: Scene) -> list[Hotspot]:
        """A disc for each mark: its numbers and a thumbnail of its samples."""
        places, radii = pixels(axes[0], scene.xy), np.maximum(radius(scene.areas), NEAR)
        return [
            Hotspot(x, y, r, told(m, self.scales), self.thumbnails.get(self.key(m), b""))
            for m, (x, y), r in zip(scene.marks, places.tolist(), radii.tolist(), strict=True)
        ]

    def _draw_marks(self, ax: Axes, scene: Scene) -> None:
        colours = [self.colours[m.family] for m in scene.marks]
        size = scene.columns[2]
        known = [size not in self.scales or not math.isnan(m.mean[size]) for m in scene.marks]
        ax.add_collection(LineCollection(scene.bars, colors=colours * 2, linewidths=1.2), autolim=False)
        seen = [m.model == scene.look for m in scene.marks]
        edges = {"edgecolors": np.where(seen, style.INK, colours), "linewidths": np.where(seen, 2.5, 1)}
        ax.scatter(*scene.xy.T, s=scene.areas, c=np.where(known, colours, "white"), **edges, zorder=3)

    def _draw_samples(self, ax: Axes, mark: Mark) -> None:
        key, middle = self.key(mark), {"transform": ax.transAxes, "ha": "center"}
        ax.text(0.5, 1.03, f"{mark.name}, seed {key.rpartition('/')[2]}" if key else mark.name, **middle, fontsize=12)
        if key is None:
            ax.text(0.5, 0.5, "no samples kept", **middle)
        elif key in self.pages:
            ax.imshow(self.pages[key], cmap="gray", vmin=0, vmax=255, extent=(0, 1, 0, 1))
        else:
            ax.plot(*self.samples[key].numpy().T, ".", color=style.VERMILION, markersize=3, alpha=0.7, markeredgewidth=0)


def trilemma(board: Board) -> Explorer:
    """Any two numbers of a scoreboard against each other; point at a mark and see its samples and all its numbers.

    `board` holds rows of one data set, and samples of the plane or images under "model/seed". Raises ValueError for a
    board without rows, of several data sets, or with fewer than two columns of numbers.
    """
    ready = Scoreboard(board)
    names, x = {ready.scales[c].words: c for c in ready.columns}, ready.first(SPEED)
    diverse = (c for c in DIVERSITY if c in ready.columns)
    return Explorer(
        ready.scene,
        ready.draw,
        {
            "x": Choice(names, x, label="across"),
            "y": Choice(names, ready.first(QUALITY, but=x), label="up"),
            "size": Choice({"the same": "same"} | names, next(diverse, "same"), label="area"),
            "seeds": Choice({"mean ± sd": "mean", "all": "all"}, label="seeds", buttons=True),
            "look": Choice({m.name: m.model for m in ready.means}, label="look at"),
        },
        backdrop=ready.backdrop,
        panels=(1, 2),
        size=(9.6, 4.6),
        hotspots=ready.hotspots,
        caption="Models of the scoreboard, a colour for each family; bars are standard deviations over seeds, dashed lines "
        "what samples of the data themselves would have. Arrows say which way is better; hollow marks have no value for "
        "their area. Ringed in black is the model whose samples are on the right, in the plane over the data's density. "
        "Point at a mark to see its samples and all its numbers.",
    )
