r"""Histograms of a score, say log p(x), of several sets on one axis: do train and test agree, do foreign sets stand apart?

Train and test under one another say that the model has not learned by heart (thesis figure 4.18); foreign sets beside or
above them say what AUROC puts into one number. Each histogram shows shares of its own set, so that sets of any size compare.
"""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from torch import Tensor

from gmcourse.model import check_count
from gmcourse.viz.plots import new_axes


def score_histograms(
    scores: Mapping[str, Tensor], ax: Axes | None = None, bins: int = 60, extent: tuple[float, float] | None = None
) -> Axes:
    """A histogram for every named set of scores (n,), in shares of that set, over common bins.

    The bins span `extent`, by default the 0.5 % and 99.5 % quantiles of all sets; what lies beyond, −inf too, is counted in
    the outermost bin. Raises ValueError for no sets, empty ones and NaN.
    """
    if not scores:
        raise ValueError("scores must hold at least one set; got none")
    for name, values in scores.items():
        if values.ndim != 1 or len(values) == 0 or values.isnan().any():
            raise ValueError(f"scores[{name!r}] must be numbers, shape (n,); got {_came(values)}")
    values = {name: found.detach().double().cpu() for name, found in scores.items()}
    low, high = _span(values.values()) if extent is None else extent
    if not low < high:
        raise ValueError(f"extent must be (low, high) with low < high; got {(low, high)}")
    ax = new_axes(6.0, 3.4) if ax is None else ax
    edges = torch.linspace(low, high, check_count(bins, "bins") + 1, dtype=torch.float64)
    for name, found in values.items():
        shares = torch.histogram(found.clamp(low, high), edges)[0] / len(found)
        (outline,) = ax.plot(edges.repeat_interleave(2)[1:-1], shares.repeat_interleave(2), label=name)
        ax.fill_between(*outline.get_data(), alpha=0.2, linewidth=0, color=outline.get_color())
    ax.set(xlabel="score", ylabel="share of the set", xlim=(low, high))
    ax.set_ylim(bottom=0)
    ax.legend()
    return ax


def _span(values) -> tuple[float, float]:
    """The widest 0.5 % to 99.5 % of any set, of its finite scores."""
    finite = [found[found.isfinite()] for found in values]
    ends = [found.quantile(found.new_tensor([0.005, 0.995])) for found in finite if len(found)]
    if not ends:
        raise ValueError("scores must hold some finite numbers; got none")
    low, high = float(min(e[0] for e in ends)), float(max(e[1] for e in ends))
    return (low, high) if low < high else (low - 0.5, high + 0.5)


def _came(values: Tensor) -> str:
    if values.ndim != 1 or len(values) == 0:
        return f"shape {tuple(values.shape)}"
    return f"{int(values.isnan().sum())} NaN of {len(values)}"
