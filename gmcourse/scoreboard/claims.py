r"""The table of thesis 2.6, pros and cons of the five families, as claims that a board supports or contradicts.

Words like "excellent" are made numbers by comparison: with the best family on the same data, under the same time. A claim
that the board's columns can't decide is "not measured", and so is one about a spread over seeds if there is one seed only.
What is judged is the claim; a cause that it names (the prior hole) is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gmcourse.metrics.scoreboard import Board, Line, quality
from gmcourse.scoreboard.judges import (
    costly_steps,
    dominated,
    estimable,
    exact,
    excellent,
    fast,
    loses_modes,
    low_on_images,
    low_quality,
    near_truth,
    no_likelihood,
    ratio,
    sharper,
    slow,
    steady,
    unsteady,
)

Judge = Callable[[Line, Sequence[Line]], bool | None]


@dataclass(frozen=True)
class Claim:
    """What is said of a family, as "pro" or "con", and how it is told: by which column, and by what rule."""

    family: str
    side: str
    text: str
    column: str = ""
    rule: str = ""
    holds: Judge = lambda line, lines: None


@dataclass(frozen=True)
class Verdict:
    """A claim, and what a board says of it: "supported", "contradicted" or "not measured"; `evidence` in words."""

    claim: Claim
    verdict: str
    evidence: str

    def __str__(self) -> str:
        sign = "+" if self.claim.side == "pro" else "−"
        return f"{self.claim.family:9} {sign} {self.claim.text:45} {self.verdict:13} {self.evidence}".rstrip()


_BEST = "distance at most 1.5 times the best family's, or the floor"
_WORSE = "distance more than 1.5 times the best family's, and the floor"
_ONE = "one network evaluation per sample"
_SEEDS = "distance varies over seeds by at most a quarter of its mean"
_VARIES = "distance varies over seeds by more than a quarter of its mean"
_MISSED = "a mode is missed in some seed"
_MANY = "at least 10 times the fastest family's milliseconds"

CLAIMS = (
    Claim("VAE", "pro", "likelihood can be estimated", "likelihood", "log_prob is exact or a bound", estimable),
    Claim("VAE", "pro", "trains stably", "quality", _SEEDS, steady),
    Claim("VAE", "pro", "samples fast", "nfe", _ONE, fast),
    Claim("VAE", "pro", "has latent variables of low dimension"),
    Claim("VAE", "con", "samples of low quality: the prior hole", "quality", _WORSE, low_quality),
    Claim("flow", "pro", "likelihood is exact", "likelihood", "log_prob is exact", exact),
    Claim("flow", "pro", "samples fast", "nfe", _ONE, fast),
    Claim("flow", "con", "uses its parameters poorly", "parameters", "another is better by 25 % with no more", dominated),
    Claim("flow", "con", "hard to train", "quality", _VARIES, unsteady),
    Claim("flow", "con", "samples of low quality", "quality", _WORSE, low_quality),
    Claim("EBM", "pro", "any network can be an energy"),
    Claim("EBM", "pro", "smooths less than maximum likelihood", "precision", "VAE's and flow's + 0.02", sharper),
    Claim("EBM", "con", "an update costs much: MCMC", "seconds/steps", "a step takes longer than the median", costly_steps),
    Claim("EBM", "con", "samples slowly", "ms_per_1000", _MANY, slow),
    Claim("EBM", "con", "hard to scale to many dimensions", "fid", _WORSE + ", on images", low_on_images),
    Claim("diffusion", "pro", "samples of excellent quality", "quality", _BEST, excellent),
    Claim("diffusion", "pro", "good likelihood", "gap", "at most 0.1 nats from the truth", near_truth),
    Claim("diffusion", "pro", "trains stably", "quality", _SEEDS, steady),
    Claim("diffusion", "con", "samples extremely slowly", "ms_per_1000", _MANY, slow),
    Claim("GAN", "pro", "samples of excellent quality", "quality", _BEST, excellent),
    Claim("GAN", "pro", "samples fast", "nfe", _ONE, fast),
    Claim("GAN", "con", "training is unstable", "quality", _VARIES, unsteady),
    Claim("GAN", "con", "loses modes", "coverage", _MISSED, loses_modes),
    Claim("GAN", "con", "has no likelihood", "likelihood", "there is no log_prob", no_likelihood),
)


def verdicts(board: Board) -> list[Verdict]:
    """What a board of one data set says of each claim, in the order of thesis 2.6.

    The first model of a family stands for it. Raises ValueError for a board of several data sets.
    """
    lines = board.summary()
    if len({line.data for line in lines}) > 1:
        raise ValueError(f"board must be of one data set; got {', '.join(sorted({line.data for line in lines}))}")
    first: dict[str, Line] = {}
    for line in lines:
        first.setdefault(line.family, line)
    return [_verdict(claim, first.get(claim.family), lines) for claim in CLAIMS]


def _verdict(claim: Claim, line: Line | None, lines: Sequence[Line]) -> Verdict:
    held = None if line is None else claim.holds(line, lines)
    if held is None:
        return Verdict(claim, "not measured", "")
    return Verdict(claim, "supported" if held else "contradicted", _evidence(claim.column, line, lines))


def _evidence(column: str, line: Line, lines: Sequence[Line]) -> str:
    """The numbers behind a verdict."""
    if column == "likelihood":
        return line.likelihood
    if column == "quality":
        name, value, _, spread = quality(line)
        apart = ratio(line, lines)
        told = f"{name} {value:.3g}" + (f" ± {spread:.2g}" if spread is not None else "")
        return told + (f", {apart:.3g} × the best" if apart is not None else "")
    if column == "coverage":
        return f"{line.worst_covered} of {line['modes']:.0f} modes at worst"
    if column == "seconds/steps":
        return f"{1000 * line['seconds'] / line['steps']:.3g} ms a step"
    best = min(lines, key=lambda o: o["ms_per_1000"]) if column == "ms_per_1000" else None
    told = f"{column} {line[column]:.3g}"
    return told if best is None else f"{told}, {line[column] / best[column]:.3g} × the fastest"
