"""Every plot draws on the axes it is given, shows the numbers it was given, and leaves pyplot alone."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from gmcourse.viz import plots, style
from gmcourse.viz.plane import around, evaluate, grid, on_grid

EXTENT = (-3.0, 3.0, -3.0, 3.0)
NORMAL = torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2))
LABELS = torch.arange(60) % 3
HISTORY = {"vae": torch.linspace(3, 1, 200), "prior": torch.linspace(2, 1, 200)}

DRAWN = {
    "density": lambda ax: plots.density(NORMAL, EXTENT, ax),
    "samples": lambda ax: plots.samples(torch.randn(50, 2), ax, over=NORMAL, extent=EXTENT),
    "score_field": lambda ax: plots.score_field(lambda x: -x, EXTENT, ax),
    "mosaic": lambda ax: plots.mosaic(torch.zeros(6, 3, 8, 8), ax=ax),
    "latent_map": lambda ax: plots.latent_map(torch.randn(60, 2), LABELS, ax),
    "loss_curves": lambda ax: plots.loss_curves(SimpleNamespace(losses=HISTORY), ax, log=True),
    "band": lambda ax: plots.band(range(5), torch.rand(3, 5), ax, label="three seeds"),
    "bars": lambda ax: plots.bars({"a": [1.0, 2.0], "b": [3.0]}, ax),
}


@pytest.fixture
def ax():
    figure = Figure(dpi=style.DPI)
    FigureCanvasAgg(figure)
    return figure.add_subplot()


@pytest.fixture(autouse=True)
def no_pyplot_figures():
    pyplot.close("all")
    yield
    pyplot.close("all")


@pytest.mark.parametrize("name", DRAWN)
def test_draws_on_its_axes_and_not_on_pyplot(name, ax):
    assert DRAWN[name](ax) is ax
    ax.figure.canvas.draw()
    assert ax.has_data()
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("name", DRAWN)
def test_makes_one_figure_of_its_own_without_axes(name):
    made = DRAWN[name](None)
    assert pyplot.get_fignums() == [made.figure.number]


def test_the_grid_is_a_midpoint_rule():
    mass = on_grid(NORMAL.log_prob, EXTENT, 100).exp().sum() * (6 / 100) ** 2
    assert float(mass) == pytest.approx(math.erf(3 / 2**0.5) ** 2, abs=1e-4)


def test_the_first_axis_is_horizontal_and_the_second_points_up(ax):
    corner = torch.distributions.MultivariateNormal(torch.tensor([2.0, -2.0]), 0.1 * torch.eye(2))
    colours = plots.density(corner, EXTENT, ax).images[0].get_array()
    darkest = np.unravel_index(colours[..., :3].sum(-1).argmin(), colours.shape[:2])
    assert ax.images[0].origin == "lower"
    assert darkest[0] < 60 and darkest[1] > 140  # low row: low y; high column: high x


def test_a_shared_vmax_makes_panels_comparable(ax):
    plots.density(NORMAL, EXTENT, ax, vmax=1.0)
    peak = ax.images[0].get_array()[100, 100]
    assert tuple(peak) == style.DENSITY(1 / (2 * math.pi), bytes=True)


def test_arrows_point_along_the_score_and_fit_between_their_neighbours(ax):
    plots.score_field(lambda x: -1000 * x, EXTENT, ax, resolution=12)
    quiver = ax.collections[0]
    arrows, places = np.stack((quiver.U, quiver.V), -1), quiver.XY
    cosine = -(arrows * places).sum(-1) / np.linalg.norm(arrows, axis=-1) / np.linalg.norm(places, axis=-1)
    assert cosine == pytest.approx(1.0, abs=1e-5)
    assert np.linalg.norm(arrows, axis=-1).max() < 6 / 12


def test_models_are_evaluated_in_bounded_chunks_and_gradients_are_allowed():
    sizes = []

    class Energy(nn.Module):
        def score(self, x):
            sizes.append(len(x))
            x = x.requires_grad_()
            return torch.autograd.grad(-(x**2).sum() / 2, x)[0]

    points = grid(EXTENT, 150)
    assert torch.allclose(evaluate(Energy().score, points), -points)
    assert max(sizes) < len(points)


def test_loss_curves_smooth_without_bending_a_straight_line(ax):
    plots.loss_curves({"loss": torch.linspace(3, 1, 200)}, ax)
    raw, smooth = ax.lines
    assert np.interp(smooth.get_xdata(), *raw.get_data()) == pytest.approx(smooth.get_ydata(), abs=1e-6)
    assert len(smooth.get_xdata()) < len(raw.get_xdata())


def test_bands_and_bars_show_mean_and_standard_error(ax):
    runs = np.array([[1.0, 5.0], [2.0, 7.0], [6.0, 9.0]])
    plots.band([0, 1], runs, ax)
    edge = ax.collections[0].get_paths()[0].vertices
    assert ax.lines[0].get_ydata() == pytest.approx(np.array([3.0, 7.0]))
    assert edge[:, 1].max() == pytest.approx(7 + 2 / 3**0.5)
    plots.bars({"first": runs[:, 0]}, ax)
    assert ax.patches[0].get_height() == pytest.approx(3.0)
    low, high = ax.containers[-1].lines[2][0].get_segments()[0][:, 1]
    assert (high - low) / 2 == pytest.approx(runs[:, 0].std(ddof=1) / 3**0.5)


def test_the_latent_map_tells_more_than_ten_classes_apart(ax):
    plots.latent_map(torch.randn(26, 2), torch.arange(26) % 13, ax)
    looks = {(c.get_facecolor().tobytes(), c.get_paths()[0].vertices.tobytes()) for c in ax.collections}
    assert len(looks) == 13
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [str(k) for k in range(13)]


def test_samples_without_an_extent_are_all_but_in_view(ax):
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    xmin, xmax, ymin, ymax = around(x.numpy())
    inside = (x[:, 0] > xmin) & (x[:, 0] < xmax) & (x[:, 1] > ymin) & (x[:, 1] < ymax)
    assert inside.float().mean() > 0.98
    plots.samples(x, ax)
    assert ax.get_xlim() == pytest.approx((xmin, xmax))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plots.density(NORMAL), r"extent must be given: MultivariateNormal names none"),
        (lambda: plots.density(NORMAL, (1, 0, 0, 1)), r"extent must be .* min < max; got \(1, 0, 0, 1\)"),
        (lambda: plots.density(lambda x: x, EXTENT), r"log_prob must return shape \(n,\); got \(40000, 2\)"),
        (lambda: plots.score_field(lambda x: x[:, 0], EXTENT), r"score must return shape \(n, 2\)"),
        (lambda: plots.samples(torch.randn(5, 3)), r"x must have shape \(n, 2\); got \(5, 3\)"),
        (lambda: plots.latent_map(torch.randn(5, 2), torch.zeros(4)), r"labels must have shape \(5,\)"),
        (lambda: plots.latent_map(torch.randn(5, 3), torch.zeros(5)), r"means must have shape \(n, 2\)"),
        (lambda: plots.band([0, 1], [1.0, 2.0]), r"ys must have shape \(seeds, 2\)"),
        (lambda: plots.bars({}), r"values must hold at least one name"),
    ],
)
def test_bad_input_is_named_and_leaves_no_figure_behind(call, message):
    with pytest.raises(ValueError, match=message):
        call()
    assert pyplot.get_fignums() == []


def test_the_look_is_explicit_and_readable():
    import matplotlib

    with matplotlib.rc_context():
        style.use()
        assert matplotlib.rcParams["figure.dpi"] == 80
        assert all(matplotlib.rcParams[f"{part}.labelsize"] >= 10 for part in ("axes", "xtick", "ytick"))
    before = matplotlib.rcParams["axes.prop_cycle"]
    with style.context():
        assert matplotlib.rcParams["axes.prop_cycle"] != before
    assert matplotlib.rcParams["axes.prop_cycle"] == before


def test_the_density_colours_darken_steadily():
    luminance = style.DENSITY(np.linspace(0, 1, 256))[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) < 0).all()
    assert luminance[0] == pytest.approx(1.0)
