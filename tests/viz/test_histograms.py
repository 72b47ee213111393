"""Histograms of scores show shares of each set, over bins that all sets share."""

import math

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from gmcourse.viz import style
from gmcourse.viz.histograms import score_histograms


@pytest.fixture
def ax():
    figure = Figure(dpi=style.DPI)
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def heights(ax, k):
    return ax.lines[k].get_ydata()[::2]


def test_every_histogram_has_the_shares_of_its_set_over_common_bins(ax):
    scores = {"train": torch.randn(4000), "test": torch.randn(500), "foreign": torch.randn(1000) - 6}
    assert score_histograms(scores, ax, bins=30, extent=(-8.0, 4.0)) is ax
    for k, values in enumerate(scores.values()):
        wanted = np.histogram(values.clamp(-8, 4).double().numpy(), np.linspace(-8, 4, 31))[0] / len(values)
        assert np.allclose(heights(ax, k), wanted)
        assert np.array_equal(ax.lines[k].get_xdata(), ax.lines[0].get_xdata())
    assert [text.get_text() for text in ax.get_legend().get_texts()] == list(scores)
    ax.figure.canvas.draw()


def test_what_lies_beyond_the_quantiles_is_counted_in_the_outermost_bins(ax):
    values = torch.cat([torch.linspace(0, 1, 997), torch.tensor([-math.inf, 1e9, 1e9])])
    score_histograms({"a": values}, ax, bins=10)
    assert heights(ax, 0).sum() == pytest.approx(1)
    low, high = ax.get_xlim()
    assert 0 <= low < 0.02 and 0.98 < high <= 1.0


def test_equal_scores_have_a_histogram(ax):
    score_histograms({"a": torch.ones(5), "b": torch.ones(3)}, ax)
    assert heights(ax, 0).max() == 1


def test_bad_input_is_named(ax):
    for scores, message in [
        ({}, "scores must hold at least one set; got none"),
        ({"a": torch.zeros(2, 2)}, r"scores\['a'\] must be numbers, shape \(n,\); got shape \(2, 2\)"),
        ({"a": torch.zeros(0)}, r"scores\['a'\] must be numbers, shape \(n,\); got shape \(0,\)"),
        ({"a": torch.tensor([math.nan, 1.0])}, r"scores\['a'\] must be numbers, shape \(n,\); got 1 NaN of 2"),
        ({"a": torch.tensor([-math.inf])}, "scores must hold some finite numbers; got none"),
    ]:
        with pytest.raises(ValueError, match=message):
            score_histograms(scores, ax)
    with pytest.raises(ValueError, match=r"extent must be \(low, high\) with low < high; got \(1, 0\)"):
        score_histograms({"a": torch.zeros(2)}, ax, extent=(1, 0))
