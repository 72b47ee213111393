"""An explorer's picture depends on its controls' values alone: not on widgets, history or pyplot."""

import base64
import io
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from gmcourse.viz import Choice, Explorer, Slider, mosaic_array, style
from gmcourse.viz.explorers import EXPLORERS

BENCHMARK = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "explorers.py"))  # it knows how to make each
BOUND = 50.0 * (3 if os.environ.get("CI") == "true" else 1)  # ms of CPU time


def wave(frequency, kind):
    x = np.linspace(0, 1, 200)
    return x, np.sin(2 * np.pi * frequency * x) ** (2 if kind == "squared" else 1)


def frame(ax):
    ax.set(xlim=(0, 1), ylim=(-1.1, 1.1), title="a wave", xlabel="x")
    ax.plot([0, 1], [0, 0], "k:")


def draw(ax, data):
    ax.fill_between(*data, alpha=0.4)
    ax.plot(*data)
    ax.plot(data[0], -data[1])


def make(backdrop=frame, compute=wave, draw=draw, **options):
    controls = {"frequency": Slider(0.5, 5.0, 0.5, 1.0), "kind": Choice(["plain", "squared"])}
    return Explorer(compute, draw, controls, backdrop=backdrop, **options)


def pixels(picture):
    return np.asarray(Image.open(io.BytesIO(picture)))


@pytest.mark.parametrize("backdrop", [frame, None])
def test_a_picture_is_a_png_of_the_size_asked_for(backdrop):
    picture = Image.open(io.BytesIO(make(backdrop, size=(6.0, 3.0)).picture(frequency=2)))
    assert (picture.format, picture.size) == ("PNG", (480, 240))


@pytest.mark.parametrize("backdrop", [frame, None])
def test_the_same_values_give_the_same_bytes_whatever_came_before(backdrop):
    explorer = make(backdrop)
    first = explorer.picture(frequency=3.0)
    assert explorer.picture(frequency=4.0, kind="squared") != first
    assert explorer.picture(frequency=3.0) == first
    other = make(backdrop)
    other.picture(kind="squared")
    assert other.picture(frequency=3.0) == first


def test_drawing_over_a_backdrop_equals_drawing_everything():
    """Against plain matplotlib: a figure per picture, what `draw` adds above all but the frame."""
    explorer = make()
    for frequency in (1.0, 2.5, 0.5):
        with style.context():
            figure = Figure(figsize=(5, 4), dpi=80, layout="constrained")
            canvas = FigureCanvasAgg(figure)
            ax = figure.subplots()
            frame(ax)
            canvas.draw()
            figure.set_layout_engine("none")
            below = set(ax.get_children())
            ax.set_prop_cycle(None)
            draw(ax, wave(frequency, "plain"))
            for artist in set(ax.get_children()) - below:
                artist.set_zorder(artist.get_zorder() + 100)
            for spine in ax.spines.values():
                spine.set_zorder(200)
            canvas.draw()
        expected = np.asarray(canvas.buffer_rgba())[..., :3]
        assert (pixels(explorer.picture(frequency=frequency)) == expected).all()


def test_a_title_or_limits_set_over_a_backdrop_are_shown_and_forgotten():
    def draw_with_title(ax, data):
        x, y, frequency = data
        ax.plot(x, y)
        if frequency > 2:
            ax.set(title=f"frequency {frequency}", ylim=(-3, 3))

    explorer = make(compute=lambda frequency, kind: (*wave(frequency, kind), frequency), draw=draw_with_title)
    plain = explorer.picture(frequency=1.0)
    titled = explorer.picture(frequency=3.0)
    assert (pixels(plain)[:25] != pixels(titled)[:25]).any()
    assert explorer.picture(frequency=1.0) == plain
    assert explorer.picture(frequency=3.0) == titled


def test_one_figure_serves_all_pictures_and_pyplot_knows_none():
    pyplot.close("all")
    figures = set()
    explorer = make(None, draw=lambda ax, data: figures.add(id(ax.figure)) or draw(ax, data))
    for frequency in (1.0, 2.0, 3.0):
        explorer.picture(frequency=frequency)
    assert explorer.widget is not None
    assert len(figures) == 1
    assert pyplot.get_fignums() == []


def test_moving_a_slider_changes_the_picture_to_that_of_the_value():
    explorer = make()
    before = explorer.image.value
    explorer.inputs["frequency"].value = 2.0
    assert explorer.image.value != before
    assert explorer.image.value == make().picture(frequency=2.0)
    assert (explorer.image.width, explorer.image.height) == ("400", "320")
    assert explorer.values == {"frequency": 2.0, "kind": "plain"}


def test_rapid_moves_end_with_the_last_value():
    explorer = make()
    for k in range(1, 11):
        explorer.inputs["frequency"].value = k / 2
    assert explorer.image.value == make().picture(frequency=5.0)


def test_set_moves_the_widgets_and_draws_once():
    drawn = []
    explorer = make(draw=lambda ax, data: drawn.append(1) or draw(ax, data))
    assert explorer.inputs["kind"].value == "plain"
    drawn.clear()
    explorer.set(frequency=3, kind="squared")
    assert (explorer.inputs["frequency"].value, explorer.inputs["kind"].value) == (3.0, "squared")
    assert len(drawn) == 1
    assert explorer.image.value == make().picture(frequency=3, kind="squared")
    explorer.inputs["kind"].value = "plain"  # still follows the hand
    assert explorer.image.value == make().picture(frequency=3)


def test_values_set_before_the_widget_exists_are_those_it_opens_with():
    explorer = make()
    explorer.set(frequency=4.5)
    assert explorer.inputs["frequency"].value == 4.5
    assert explorer.image.value == explorer.picture()


def test_the_output_carries_a_still_picture_and_constant_words():
    explorer = make(caption="A wave.")
    bundle = explorer._repr_mimebundle_()
    assert bundle["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.widget.model_id
    assert base64.b64decode(bundle["image/png"]) == explorer.picture()
    explorer.set(frequency=3.0)
    moved = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == moved["text/plain"] == "Explorer: A wave."
    assert base64.b64decode(moved["image/png"]) == make().picture(frequency=3.0)
    assert make()._repr_mimebundle_()["text/plain"] == "Explorer: frequency, kind"


def test_an_array_becomes_the_picture_as_it_is():
    explorer = Explorer(
        lambda grey: mosaic_array(torch.full((4, 1, 8, 8), grey), scale=2),
        lambda ax, page: page,
        {"grey": Slider(-1.0, 1.0, 0.1, 0.0)},
    )
    assert pixels(explorer.picture(grey=-1.0)).min() == 0
    assert pixels(explorer.picture(grey=1.0)).min() == 255
    assert (explorer.image.width, explorer.image.height) == ("34", "34")


def test_several_panels_come_as_a_list_row_by_row():
    def draw_all(axes, data):
        assert [ax.get_subplotspec().num1 for ax in axes] == [0, 1, 2, 3]
        for ax in axes:
            ax.plot(*data)

    assert make(lambda axes: None, draw=draw_all, panels=(2, 2)).picture()


def test_an_error_is_written_in_place_of_the_picture_and_goes_when_it_is_mended():
    def compute(frequency, kind):
        if frequency > 2:
            raise ZeroDivisionError(f"no wave at {frequency}")
        return wave(frequency, kind)

    explorer = make(compute=compute)
    good = explorer.image.value
    explorer.inputs["frequency"].value = 3.0
    said = explorer.image.value
    assert isinstance(explorer.error, ZeroDivisionError)
    assert pixels(said).shape == pixels(good).shape and said != good
    explorer.inputs["frequency"].value = 4.0
    assert explorer.image.value != said  # the message names what happened
    explorer.inputs["frequency"].value = 1.0
    assert explorer.error is None and explorer.image.value == good
    with pytest.raises(ZeroDivisionError):  # without a widget there is nothing to write on
        explorer.picture(frequency=3.0)


def test_half_a_drawing_leaves_nothing_behind():
    def draw_and_fail(ax, data):
        draw(ax, data)
        if data[1].min() >= 0:
            raise RuntimeError("after drawing")

    explorer = make(draw=draw_and_fail)
    good = explorer.picture()
    with pytest.raises(RuntimeError):
        explorer.picture(kind="squared")
    assert explorer.picture() == good


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.picture(freq=1), "'freq' is no control of this explorer; it has frequency, kind"),
        (lambda e: e.picture(frequency=7), r"frequency must lie in \[0.5, 5\]; got 7"),
        (lambda e: e.set(kind="cubed"), "kind must be one of 'plain', 'squared'; got 'cubed'"),
        (lambda e: e.set(frequency=2, kind=None), "kind must be one of"),
    ],
)
def test_bad_values_are_refused_by_name_and_nothing_moves(call, message):
    explorer = make()
    with pytest.raises(ValueError, match=message):
        call(explorer)
    assert explorer.values == {"frequency": 1.0, "kind": "plain"}


def test_controls_must_be_arguments_of_compute():
    with pytest.raises(TypeError, match="kind"):
        make(compute=lambda frequency: None)
    with pytest.raises(ValueError, match="at least one control"):
        Explorer(wave, draw, {})


def test_pictures_need_neither_ipywidgets_nor_pyplot():
    """In a fresh interpreter where importing either is an error."""
    program = (
        "import sys; sys.modules['ipywidgets'] = sys.modules['matplotlib.pyplot'] = None\n"
        "from gmcourse.viz import Explorer, Slider\n"
        "e = Explorer(lambda a: [0, a], lambda ax, y: ax.plot(y), {'a': Slider(0, 1, 0.1, 0.5)})\n"
        "assert e.picture(a=1)[1:4] == b'PNG'\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=120)


def test_in_the_landscape_all_data_dissolve_into_the_same_noise():
    explorer = EXPLORERS["mixture_landscape"]()
    names = explorer.controls["data"].sweep(9)
    assert len({explorer.picture(data=name, sigma=1.0) for name in names}) == 1
    assert len({explorer.picture(data=name, sigma=0.0) for name in names}) == len(names)


@pytest.mark.parametrize("name", EXPLORERS)
def test_every_explorer_draws_all_its_values_and_says_what_it_shows(name):
    explorer = BENCHMARK["make"](name)
    pictures = {explorer.picture()}
    for control in explorer.controls:
        for value in explorer.controls[control].sweep(3):
            pictures.add(explorer.picture(**{control: value}))
    assert len(pictures) > len(explorer.controls)
    assert explorer.caption and all(control.label for control in explorer.controls.values())


@pytest.mark.parametrize("name", EXPLORERS)
def test_a_move_is_on_the_screen_in_time(name):
    """CPU time from a slider's new value to the PNG, on one thread; one of three rounds must make it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for _ in range(3):
            medians = {row.control: row.cpu_median for row in BENCHMARK["measure"](name, moves=8)}
            if max(medians.values()) <= BOUND:
                return
    finally:
        torch.set_num_threads(threads)
    pytest.fail(f"ms per move: {medians}")
