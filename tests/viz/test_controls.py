"""Controls accept what they offer, refuse the rest by name, and make widgets with the same range."""

import math

import pytest

from gmcourse.viz import Choice, LogSlider, Slider, Switch

CONTROLS = [
    Slider(0.0, 1.0, 0.01, 0.3, "noise level"),
    Slider(1, 9, 2, 3, "steps"),
    LogSlider(0.003, 70.0, 1.0, "step size"),
    Choice(["mean", "sample"], label="decoder"),
    Choice({"one": 1, "two": 2}, value=2, buttons=True),
    Switch(True, "arrows"),
]


@pytest.mark.parametrize("control", CONTROLS, ids=repr)
def test_a_sweep_covers_the_range_with_values_that_are_accepted(control):
    values = control.sweep(7)
    assert len(values) == len(set(values)) <= 7
    assert [control.check("x", value) for value in values] == values
    if hasattr(control, "low"):
        assert (values[0], values[-1]) == (control.low, control.high)


@pytest.mark.parametrize("control", CONTROLS, ids=repr)
def test_the_widget_starts_at_the_value_and_reaches_both_ends(control):
    widget = control.widget("x")
    assert widget.value == control.value
    for value in (control.sweep(2)[0], control.sweep(2)[-1]):
        widget.value = value
        assert control.check("x", control.read(widget.value)) == pytest.approx(value)
    assert getattr(widget, "continuous_update", True)


def test_a_logarithmic_slider_moves_in_equal_ratios_within_its_range():
    control = LogSlider(0.003, 70.0, 1.0)
    widget = control.widget("x")
    assert widget.base**widget.min == pytest.approx(0.003)
    ratios = [math.log(b / a) for a, b in zip(control.sweep(9), control.sweep(9)[1:], strict=False)]
    assert ratios == pytest.approx([ratios[0]] * 8)
    assert control.read(70.0 * (1 + 1e-12)) == 70.0  # what comes back through a logarithm


def test_whole_numbers_stay_whole():
    assert [type(v) for v in Slider(1, 9, 2, 3).sweep(5)] == [int] * 5
    assert Slider(0, 1, 0.5, 0).check("t", 1) == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Slider(1, 0, 0.1, 0.5), "low must be below high; got 1 and 0"),
        (lambda: Slider(0, 1, 0, 0.5), r"step must lie in \(0, high - low\]; got 0"),
        (lambda: Slider(0, 1, 0.1, 2), r"value must lie in \[0, 1\]; got 2"),
        (lambda: Slider(0, 5, 1, 2).check("k", 2.5), "k must be a whole number; got 2.5"),
        (lambda: Slider(0, 1, 0.1, 0).check("t", "0.5"), "t must be a number; got '0.5'"),
        (lambda: Slider(0, 1, 0.1, 0).check("t", True), "t must be a number; got True"),
        (lambda: Slider(0, 1, 0.1, 0).check("t", math.nan), r"t must lie in \[0, 1\]; got nan"),
        (lambda: LogSlider(0, 1, 0.5), "0 < low < high must hold; got low 0"),
        (lambda: LogSlider(0.1, 1, 0.5, steps=0), "steps must be at least 1; got 0"),
        (lambda: Choice([]), "options must hold at least one value"),
        (lambda: Choice(["a", "b"], value="c"), "value must be one of 'a', 'b'; got 'c'"),
        (lambda: Switch().check("arrows", 1), "arrows must be True or False; got 1"),
    ],
)
def test_bad_values_are_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
