r"""The scoreboard as data: a row for each trained model and seed, some samples of it, and a line for each model.

    Row     one model, trained once: what it was given (steps, seconds) and what came out; None = n/a
    Line    a model over its seeds: mean and standard deviation of each number
    Board   rows and samples; in a folder: scoreboard.csv, scoreboard.json, samples.safetensors

Points are kept in half precision and images as bytes: they are there to be looked at. CSV and JSON hold the same numbers.
"""

import csv
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch
from torch import Tensor

from gmcourse import checkpoint


@dataclass(frozen=True)
class Row:
    """A model of a family, trained on `data` with a seed for so many steps and seconds, and its numbers; None = n/a."""

    model: str
    family: str
    data: str
    seed: int
    steps: int
    seconds: float
    parameters: int
    nfe: int  # network evaluations per sample
    ms_per_1000: float  # milliseconds per 1000 samples
    likelihood: str  # what log_prob means: exact, lower bound, unnormalized, none
    gap_kind: str  # exact, bound, quadrature, n/a
    gap: float | None = None  # KL(data ‖ model), nats
    w2: float | None = None
    w2_floor: float | None = None  # of two sets of true samples
    covered: int | None = None
    modes: int | None = None
    mode_kl: float | None = None  # nats
    within: float | None = None  # share within 4σ of a mode
    precision: float | None = None
    recall: float | None = None
    precision_of_data: float | None = None  # of true samples beside true samples
    fid: float | None = None
    fid_of_data: float | None = None  # of two sets of real images

    @property
    def key(self) -> str:
        """The name of this row's samples."""
        return f"{self.model}/{self.seed}"


COLUMNS = tuple(f.name for f in fields(Row))
WORDS = ("model", "family", "data", "likelihood", "gap_kind")
NUMBERS = tuple(name for name in COLUMNS if name not in (*WORDS, "seed"))
SHOWN = {  # heading -> (column, format)
    "gap": ("gap", "{:.3f}"),
    "W2": ("w2", "{:.3f}"),
    "W2 of data": ("w2_floor", "{:.3f}"),
    "FID": ("fid", "{:.2f}"),
    "FID of data": ("fid_of_data", "{:.2f}"),
    "modes": ("covered", "{:.1f}"),
    "mode KL": ("mode_kl", "{:.3f}"),
    "within 4σ": ("within", "{:.3f}"),
    "precision": ("precision", "{:.3f}"),
    "of data": ("precision_of_data", "{:.3f}"),
    "recall": ("recall", "{:.3f}"),
    "NFE": ("nfe", "{:.0f}"),
    "ms/1000": ("ms_per_1000", "{:.3g}"),
    "steps": ("steps", "{:.0f}"),
    "s": ("seconds", "{:.0f}"),
    "parameters": ("parameters", "{:.0f}"),
}


@dataclass(frozen=True)
class Line:
    """One model over its seeds; `line["w2"]` is a mean, `spread` holds the standard deviations; None for n/a.

    With one seed there is no standard deviation: None.
    """

    model: str
    family: str
    data: str
    seeds: int
    likelihood: str
    gap_kind: str
    means: Mapping[str, float | None]
    spread: Mapping[str, float | None]
    worst_covered: int | None  # of all seeds

    def __getitem__(self, column: str) -> float | None:
        return self.means[column]


@dataclass(repr=False)
class Board:
    """Rows, and samples {row.key: (500, 2) or (25, c, h, w)} of them.

    >>> Board([Row("m", "VAE", "toy", 0, 10, 1.0, 5, 1, 2.0, "none", "n/a", w2=0.5)]).summary()[0]["w2"]
    0.5
    """

    rows: list[Row]
    samples: dict[str, Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Board({len(self.rows)} rows: {', '.join(dict.fromkeys(row.model for row in self.rows))})"

    def summary(self) -> list[Line]:
        """A line for each model, in the order in which they came."""
        groups: dict[str, list[Row]] = {}
        for row in self.rows:
            groups.setdefault(row.model, []).append(row)
        return [_line(rows) for rows in groups.values()]

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The summary as words: headings, and a list of cells for each model. Columns that no model has are left out."""
        lines = self.summary()
        shown = {k: v for k, v in SHOWN.items() if any(line[v[0]] is not None for line in lines)}
        cells = [[line.family, line.model, *(_cell(line, *v) for v in shown.values())] for line in lines]
        return ["family", "model", *shown], cells

    def _repr_markdown_(self) -> str:
        head, cells = self.table()
        rule = ["---", "---"] + ["--:"] * (len(head) - 2)
        return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *cells])

    def write(self, folder: str | os.PathLike) -> Path:
        """Write the three files into the folder, each whole or not at all, and return the folder."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        rows = [{k: _plain(v) for k, v in asdict(row).items()} for row in self.rows]
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
        checkpoint.write(folder / "samples.safetensors", {k: small(x) for k, x in self.samples.items()}, {"kind": "samples"})
        write_text(folder / "scoreboard.csv", text.getvalue())
        write_text(folder / "scoreboard.json", json.dumps({"kind": "scoreboard", "rows": rows}, indent=1) + "\n")
        return folder

    @classmethod
    def read(cls, folder: str | os.PathLike) -> "Board":
        """The board in a folder. FileNotFoundError if there is none, ValueError for a broken file, naming it."""
        path = Path(folder, "scoreboard.json")
        if not path.is_file():
            raise FileNotFoundError(f"no scoreboard at {path}; gmcourse scoreboard makes one")
        try:
            rows = [row_of(entry) for entry in json.loads(path.read_text("utf-8"))["rows"]]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is no scoreboard: {type(error).__name__}: {error}") from None
        samples, _ = checkpoint.read(path.with_name("samples.safetensors"))
        return cls(rows, {k: large(x) for k, x in samples.items()})


class Quality(NamedTuple):
    """How far samples are from the data, smaller is better: what it is, how much, how much true samples have, and its
    standard deviation over seeds, None for a single one."""

    name: str
    value: float
    floor: float
    spread: float | None


def quality(of: Row | Line) -> Quality:
    """The Fréchet distance of images; of points the share that lies outside of the data, 1 − precision.

    W2 of points is no better for this: in the plane most of it is chance, see `w2_floor`.
    """
    get, spread = (of.__getitem__, of.spread) if isinstance(of, Line) else (partial(getattr, of), {})
    if get("fid") is not None:
        return Quality("FID", get("fid"), get("fid_of_data") or 0.0, spread.get("fid"))
    return Quality("outside", 1 - get("precision"), 1 - (get("precision_of_data") or 1.0), spread.get("precision"))


def row_of(entry: Mapping) -> Row:
    """A row from its JSON. Raises ValueError for unknown and missing columns."""
    if unknown := sorted(entry.keys() - set(COLUMNS)):
        raise ValueError(f"unknown columns {', '.join(unknown)}")
    if missing := [name for name in COLUMNS if name not in entry]:
        raise ValueError(f"no columns {', '.join(missing)}")
    infinite = ("inf", "-inf")  # JSON has no word for it
    return Row(**{k: float(v) if k in NUMBERS and v in infinite else v for k, v in entry.items()})


def small(x: Tensor) -> Tensor:
    """Points (n, d) in half precision, images in [-1, 1] as bytes."""
    return x.half() if x.ndim < 4 else ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def large(x: Tensor) -> Tensor:
    """`small` undone, up to rounding: float32."""
    return x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x.float()


def _line(rows: Sequence[Row]) -> Line:
    columns = {name: [getattr(row, name) for row in rows] for name in NUMBERS}
    means = {k: None if None in v else mean(v) for k, v in columns.items()}
    spread = {k: None if None in v or len(v) < 2 else _deviation(v) for k, v in columns.items()}
    first = rows[0]
    worst = None if first.covered is None else min(row.covered for row in rows)
    return Line(
        first.model, first.family, first.data, len(rows), first.likelihood, first.gap_kind, means, spread, worst
    )


def _deviation(values: Sequence[float]) -> float:
    return stdev(values) if all(math.isfinite(v) for v in values) else math.nan


def _cell(line: Line, column: str, form: str) -> str:
    if line[column] is None:
        return "n/a"
    told = form.format(line[column])
    if line.spread[column] and column not in ("nfe", "parameters", "steps", "seconds"):
        told += f" ± {form.format(line.spread[column])}"
    return f"≤ {told}" if column == "gap" and line.gap_kind == "bound" else told


def _plain(value):
    """A value as JSON can hold it."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, "utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
