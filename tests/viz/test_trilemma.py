"""The scoreboard as a scatter: marks lie where the numbers say, answer the pointer there, and n/a stays out of the plane."""

import io
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from gmcourse.data import toy2d
from gmcourse.data.images import load_images
from gmcourse.metrics.scoreboard import Board, Row
from gmcourse.viz import Explorer, Slider
from gmcourse.viz.explorer import Hotspot
from gmcourse.viz.explorers.scales import short
from gmcourse.viz.explorers.trilemma import trilemma

TOY = toy2d.get("gaussians25")
FAMILIES = {"VAE": (0.4, 3.0), "flow": (0.2, 9.0), "EBM": (0.3, 2000.0), "diffusion": (0.11, 700.0), "GAN": (0.15, 2.0)}


def row(family: str, seed: int, **numbers) -> Row:
    w2, time = FAMILIES[family]
    fixed = {"data": "gaussians25", "seed": seed, "steps": 900, "seconds": 30.0, "parameters": 12_000, "nfe": 1}
    own = {"ms_per_1000": time, "likelihood": "none", "gap_kind": "n/a", "w2": w2 * (1 + 0.1 * seed), "w2_floor": 0.05}
    modes = {"covered": 25 - seed, "modes": 25, "precision": 0.5 + 0.1 * seed, "recall": 0.9}
    gap = {} if family == "GAN" else {"gap": 0.1 * (seed + 1), "gap_kind": "exact"}
    return Row(**{"model": f"{family.lower()}_gaussians25", "family": family} | fixed | own | modes | gap | numbers)


def plane(**numbers) -> Board:
    rows = [row(family, seed, **numbers) for family in FAMILIES for seed in range(3)]
    torch.manual_seed(0)
    return Board(rows, {r.key: TOY.sample((500,)) for r in rows})


def images(n: int = 25) -> Board:
    digits = load_images("digits", "test")[0][:n]
    plain = {"w2": None, "w2_floor": None, "covered": None, "modes": None, "gap": None, "data": "digits"}
    rows = [row(f, 0, **plain, model=f"{f}_digits", fid=3.0 + k, fid_of_data=0.5) for k, f in enumerate(FAMILIES)]
    return Board(rows, {r.key: digits for r in rows})


def pixels(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


def spot_of(explorer: Explorer, name: str, **values) -> Hotspot:
    return next(h for h in explorer.hotspots(**values) if h.words.startswith(name))


def test_spots_lie_where_matplotlib_puts_the_numbers_on_axes_of_its_own():
    """A logarithmic axis across, a linear one up, in the place where the explorer has its axes."""
    explorer = trilemma(plane())
    spots = explorer.hotspots(x="ms_per_1000", y="w2", seeds="all")
    here = explorer._canvas.figure
    figure = Figure(figsize=here.get_size_inches(), dpi=here.dpi)
    ax = figure.add_axes(here.axes[0].get_position().bounds)
    times = [time for _, time in FAMILIES.values()]
    w2 = [r.w2 for r in plane().rows]
    ends = np.log10((min(times), max(times)))
    room = 0.12 * (ends[1] - ends[0])
    ax.set(xscale="log", xlim=(10 ** (ends[0] - room), 10 ** (ends[1] + room)))
    spread = [(np.mean(v), np.std(v, ddof=1)) for v in np.array(w2).reshape(5, 3)]
    low, high = min(0.05, *(m - s for m, s in spread)), max(*w2, *(m + s for m, s in spread))
    ax.set(ylim=(low - 0.12 * (high - low), high + 0.12 * (high - low)))
    assert len(spots) == 15
    for r in plane().rows:
        x, y = ax.transData.transform((r.ms_per_1000, r.w2))
        spot = spot_of(explorer, f"{r.family.lower()} · seed {r.seed}", x="ms_per_1000", y="w2", seeds="all")
        assert (spot.x, spot.y) == pytest.approx((x, figure.bbox.height - y), abs=0.01)


def test_each_spot_covers_the_disc_drawn_there_and_no_more():
    """In the picture: the family's colour fills a disc of the area asked for and its edge; the spot is at least as large."""
    explorer = trilemma(plane(covered=None, modes=None))
    values = {"x": "ms_per_1000", "y": "w2", "size": "same", "look": "vae_gaussians25"}
    picture = pixels(explorer.picture(**values))
    spot = spot_of(explorer, "flow", **values)
    colour = picture[round(spot.y) + 3, round(spot.x) + 3]  # beside the error bar
    across = picture[round(spot.y) - 14 : round(spot.y) + 15, round(spot.x) - 14 : round(spot.x) + 15]
    same = (np.abs(across - colour).max(-1) < 60).sum()
    disc = (math.sqrt(110) / 2 + 0.5) * 80 / 72  # of 110 points², half of the edge's point beyond it; 80 dots an inch
    assert same == pytest.approx(math.pi * disc**2, rel=0.1)
    assert disc < spot.radius < disc + 1


def test_a_mean_tells_mean_and_deviation_over_seeds_and_a_row_its_own_number():
    explorer = trilemma(plane())
    told = spot_of(explorer, "vae").words
    values = 0.4 * np.array((1.0, 1.1, 1.2))
    assert told.startswith("vae · mean of 3 seeds\nVAE\n")
    assert f"W₂: {values.mean():.3g} ± {values.std(ddof=1):.3g}" in told
    assert "likelihood gap, nats: 0.2 ± 0.1 (exact)" in told
    assert "W₂: 0.48\n" in spot_of(explorer, "vae · seed 2", seeds="all").words
    assert "gap" not in spot_of(explorer, "gan").words


def test_what_has_no_number_on_an_axis_is_not_in_the_plane():
    explorer = trilemma(plane())
    assert len(explorer.hotspots(y="w2")) == 5
    assert {h.words.split()[0] for h in explorer.hotspots(y="gap")} == {"vae", "flow", "ebm", "diffusion"}
    assert explorer._compute(**explorer.values | {"y": "gap"}).note.endswith("no value: gan")


def test_no_model_with_both_numbers_leaves_an_empty_plane():
    rows = [row("VAE", 0), row("flow", 0, w2=None, w2_floor=None, gap=1.0)]
    rows[0] = replace(rows[0], gap=None)
    explorer = trilemma(Board(rows))
    assert explorer.hotspots(x="gap", y="w2") == []
    assert explorer.picture(x="gap", y="w2") != explorer.picture()


@pytest.mark.parametrize("board", [plane(), images(), Board(plane().rows[:3]), plane(mode_kl=0.0, within=math.inf)])
def test_every_control_draws_all_its_values(board):
    explorer = trilemma(board)
    first = explorer.picture()
    for name, control in explorer.controls.items():
        pictures = {explorer.picture(**{name: value}) for value in (control.value, *control.sweep(3))}
        assert first in pictures
        if len(board.rows) > 3 and not (name == "seeds" and board.rows[0].data == "digits"):  # one seed is its own mean
            assert len(pictures) > 1, name
    assert explorer.controls["x"].value != explorer.controls["y"].value


def test_only_columns_with_numbers_are_on_offer():
    offered = trilemma(images()).controls["x"].sweep(99)
    assert "fid" in offered and "precision" in offered
    assert not {"w2", "covered", "gap", "mode_kl", "within"} & set(offered)
    assert "within" not in trilemma(plane(within=math.nan)).controls["x"].sweep(99)


def test_a_larger_number_makes_a_larger_mark():
    explorer = trilemma(plane())
    radii = [spot_of(explorer, f"vae · seed {k}", seeds="all", size="precision").radius for k in range(3)]
    assert radii[0] < radii[1] < radii[2]
    same = {h.radius for h in explorer.hotspots(seeds="all", size="same")}
    assert len(same) == 1


def test_thumbnails_show_the_marks_own_samples_in_at_most_five_kilobytes():
    for board in (plane(), images()):
        thumbnails = [h.thumbnail for h in trilemma(board).hotspots(seeds="all")]
        assert all(0 < len(t) <= 5 * 1024 for t in thumbnails)
        assert all(40 <= side <= 120 for t in thumbnails for side in Image.open(io.BytesIO(t)).size)
    board = plane()
    corner = torch.tensor([TOY.extent[0] + 0.1, TOY.extent[3] - 0.1])  # upper left
    board.samples["gan_gaussians25/1"] = corner.repeat(500, 1)
    shown = pixels(spot_of(trilemma(board), "gan · seed 1", seeds="all").thumbnail)
    assert (shown[10:] == 255).all() and (shown[:, 10:] == 255).all() and (shown[:10, :10] != 255).any()


def test_without_samples_numbers_are_still_told():
    spots = trilemma(Board(plane().rows)).hotspots()
    assert {h.thumbnail for h in spots} == {b""}
    assert all("W₂" in h.words and "<img" not in h.html(800, 368) for h in spots)


@pytest.mark.parametrize(
    ("board", "message"),
    [
        (Board([]), "board must have at least one row; got none"),
        (Board([row("VAE", 0), row("VAE", 0, data="rings")]), "of one data set.*gaussians25, rings"),
        (
            Board([replace(row("VAE", 0), **dict.fromkeys(("w2", "covered", "precision", "recall", "gap", "ms_per_1000",
             "nfe", "parameters", "seconds")))]),
            "at least two columns; got steps",
        ),
        (Board([row("VAE", 0)], {"vae_gaussians25/0": torch.zeros(5, 3)}), r"points \(n, 2\) or images.*/0 \(5, 3\)"),
    ],
)  # fmt: skip
def test_a_board_that_no_plane_can_show_is_refused(board, message):
    with pytest.raises(ValueError, match=message):
        trilemma(board)


NUMBERS = {0.01234: "0.0123", -3.0: "-3", 1234.4: "1234", 12e3: "12k", 2.5e6: "2.5M"}


@pytest.mark.parametrize(("value", "words"), NUMBERS.items())
def test_numbers_are_short(value, words):
    assert short(value) == words


def say(ax, k):
    x, y = ax.transData.transform((0.5, 0.5))
    return [Hotspot(x, ax.figure.bbox.height - y, 10.0, f"k < {k}\n<script>", b"PNG")]


def test_the_overlay_follows_the_controls_and_goes_when_drawing_fails():
    def draw(ax, k):
        if k == 3:
            raise ZeroDivisionError
        ax.plot([0, 1], [0, k])

    explorer = Explorer(lambda k: k, draw, {"k": Slider(1, 3, 1, 1)}, hotspots=say)
    image, overlay = explorer.widget.children[1].children[0].children
    assert image is explorer.image
    assert "k &lt; 1\n&lt;script&gt;" in overlay.value and "<script" not in overlay.value
    explorer.inputs["k"].value = 2
    assert "k &lt; 2" in overlay.value and "k &lt; 1" not in overlay.value
    explorer.inputs["k"].value = 3
    assert "k &lt;" not in overlay.value
    explorer.inputs["k"].value = 1
    assert "k &lt; 1" in overlay.value and explorer.error is None


def test_an_explorer_without_hotspots_has_no_overlay():
    explorer = Explorer(lambda k: k, lambda ax, k: ax.plot([0, k]), {"k": Slider(1, 3, 1, 1)})
    assert explorer.hotspots() == []
    assert explorer.widget.children[1].children == (explorer.image,)


@pytest.mark.parametrize(("x", "y", "turned"), [(10, 10, ("left", "top")), (390, 310, ("right", "bottom"))])
def test_what_a_spot_says_opens_towards_the_middle(x, y, turned):
    html = Hotspot(x, y, 5, "words").html(400, 320)
    assert f'<div style="{turned[0]}: calc(100% + 4px); {turned[1]}: 0">' in html
    assert f"left: {x - 5:.1f}px; top: {y - 5:.1f}px; width: 10.0px; height: 10.0px" in html
