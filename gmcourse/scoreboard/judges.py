r"""How a claim about a family is told from the lines of a board: functions (line, all lines) -> True, False or None.

None says that it can't be told. Quality is a distance: Fréchet's of images, the share outside of the data of points. It is
compared with the best on the board, or with true samples where those are no nearer: below that floor it is chance.
"""

from collections.abc import Sequence
from statistics import median

from gmcourse.metrics.scoreboard import Line, quality

NEAR = 1.5  # times the best distance: up to there quality is excellent, beyond it is low
SLOW = 10.0  # times the fastest family's time for a sample
STEADY = 0.25  # standard deviation over seeds, as a share of the mean distance
CLOSE = 0.1  # nats, of a good likelihood
MARGIN = 1.25  # between two distances: those of true samples alone vary by a tenth
CHANCE = 0.02  # between two precisions: those of true samples vary by 0.004


def ratio(line: Line, lines: Sequence[Line]) -> float | None:
    """The distance over that of the best of all, or over the floor where that is farther."""
    if len(lines) < 2:
        return None
    mine = quality(line)
    return mine.value / max(mine.floor, min(quality(other).value for other in lines), 1e-12)


def excellent(line: Line, lines: Sequence[Line]) -> bool | None:
    """Near the best."""
    found = ratio(line, lines)
    return None if found is None else found <= NEAR


def low_quality(line: Line, lines: Sequence[Line]) -> bool | None:
    """Not near the best."""
    found = ratio(line, lines)
    return None if found is None else found > NEAR


def low_on_images(line: Line, lines: Sequence[Line]) -> bool | None:
    """Not near the best, on images."""
    return None if line["fid"] is None else low_quality(line, lines)


def fast(line: Line, lines: Sequence[Line]) -> bool | None:
    """One evaluation of the network makes a sample."""
    return line["nfe"] <= 1


def slow(line: Line, lines: Sequence[Line]) -> bool | None:
    """Many times slower than the fastest."""
    if len(lines) < 2:
        return None
    return line["ms_per_1000"] >= SLOW * min(other["ms_per_1000"] for other in lines)


def steady(line: Line, lines: Sequence[Line]) -> bool | None:
    """Quality varies little over seeds."""
    _, value, floor, spread = quality(line)
    return None if spread is None else spread <= STEADY * max(value, floor)


def unsteady(line: Line, lines: Sequence[Line]) -> bool | None:
    """Quality varies over seeds."""
    found = steady(line, lines)
    return None if found is None else not found


def exact(line: Line, lines: Sequence[Line]) -> bool | None:
    """log_prob is exact."""
    return line.likelihood == "exact"


def estimable(line: Line, lines: Sequence[Line]) -> bool | None:
    """log_prob is exact or a bound."""
    return line.likelihood in ("exact", "lower bound")


def no_likelihood(line: Line, lines: Sequence[Line]) -> bool | None:
    """There is no log_prob."""
    return line.likelihood == "none"


def near_truth(line: Line, lines: Sequence[Line]) -> bool | None:
    """The likelihood gap is small; of a bound on it that is not, nothing follows."""
    if line["gap"] is None or (line.gap_kind == "bound" and line["gap"] > CLOSE):
        return None
    return line["gap"] <= CLOSE


def dominated(line: Line, lines: Sequence[Line]) -> bool | None:
    """Somebody is better, by more than chance, with no more parameters."""
    mine = ratio(line, lines)
    if mine is None:
        return None
    rivals = [o for o in lines if o["parameters"] <= line["parameters"] and o.model != line.model]
    return any(max(1.0, ratio(o, lines)) * MARGIN < mine for o in rivals)


def costly_steps(line: Line, lines: Sequence[Line]) -> bool | None:
    """A step of training takes longer than the median of all."""
    if len(lines) < 2:
        return None
    costs = [o["seconds"] / o["steps"] for o in lines]
    return line["seconds"] / line["steps"] > median(costs)


def loses_modes(line: Line, lines: Sequence[Line]) -> bool | None:
    """Some seed misses a mode. Where modes can't be counted nothing can be said: recall is high without a third of them."""
    return None if line["modes"] is None else line.worst_covered < line["modes"]


def sharper(line: Line, lines: Sequence[Line]) -> bool | None:
    """More precise, by more than chance, than VAE and flow, which are trained by likelihood."""
    rivals = [o["precision"] for o in lines if o.family in ("VAE", "flow")]
    return line["precision"] > max(rivals) + CHANCE if rivals else None
