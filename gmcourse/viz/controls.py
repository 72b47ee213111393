"""What a reader can turn on an explorer: sliders, choices and switches, described without any widget.

A control knows its values (`check` refuses all others with a reason, `sweep` runs through them) and how to
make its widget; `read` brings what comes back from the browser, where numbers pass through text and
logarithms, into the range again. ipywidgets is imported only when the first widget is made, so a control
also works where there is no notebook.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Protocol

import numpy as np


class Control(Protocol):
    """One thing to turn: its first `value`, what it accepts, and its widget."""

    value: Any
    label: str

    def check(self, name: str, value: Any) -> Any:
        """The value in this control's own type; ValueError, naming the control, if it is out of range."""

    def read(self, value: Any) -> Any:
        """A widget's value as one that `check` accepts."""

    def sweep(self, count: int) -> list:
        """About `count` values from one end to the other."""

    def widget(self, name: str):
        """An ipywidgets widget whose `value` is this control's."""


def _number(name: str, value: Any, low: float, high: float) -> Real:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError(f"{name} must be a number; got {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}]; got {value:g}")
    return value


class _Range:
    """What has `low` and `high`."""

    low: float
    high: float

    def read(self, value: float) -> float:
        return min(max(value, self.low), self.high)


@dataclass(frozen=True)
class Slider(_Range):
    """Equal steps from `low` to `high`; whole numbers where all four are whole.

    >>> Slider(0, 1, 0.01, 0.3, "noise level").check("t", 0.5)
    0.5
    """

    low: float
    high: float
    step: float
    value: float
    label: str = ""

    def __post_init__(self):
        if not self.low < self.high:
            raise ValueError(f"low must be below high; got {self.low:g} and {self.high:g}")
        if not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step must lie in (0, high - low]; got {self.step:g}")
        self.check("value", self.value)

    @property
    def whole(self) -> bool:
        return all(isinstance(x, Integral) for x in (self.low, self.high, self.step))

    def check(self, name: str, value: Any) -> float:
        value = _number(name, value, self.low, self.high)
        if self.whole and value != int(value):
            raise ValueError(f"{name} must be a whole number; got {value:g}")
        return int(value) if self.whole else float(value)

    def sweep(self, count: int) -> list:
        steps = round((self.high - self.low) / self.step)
        values = [self.read(self.low + k * self.step) for k in spread(steps + 1, count)]
        return [self.check("value", value) for value in values]

    def widget(self, name: str):
        import ipywidgets

        kind = ipywidgets.IntSlider if self.whole else ipywidgets.FloatSlider
        decimals = 0 if self.whole else max(0, -math.floor(math.log10(self.step) + 1e-9))
        ends = {"min": self.low, "max": self.high, "step": self.step}
        return kind(**ends, value=self.value, readout_format=f".{decimals}f", description=self.label or name)


@dataclass(frozen=True)
class LogSlider(_Range):
    """From `low` to `high` (both above 0) in `steps` equal ratios.

    >>> LogSlider(0.01, 100, 1.0, "step size").sweep(3)
    [0.01, 1.0, 100.0]
    """

    low: float
    high: float
    value: float
    label: str = ""
    steps: int = 100

    def __post_init__(self):
        if not 0 < self.low < self.high:
            raise ValueError(f"0 < low < high must hold; got low {self.low:g} and high {self.high:g}")
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1; got {self.steps}")
        self.check("value", self.value)

    def check(self, name: str, value: Any) -> float:
        return float(_number(name, value, self.low, self.high))

    def sweep(self, count: int) -> list:
        return [self.read(float(x)) for x in np.geomspace(self.low, self.high, min(count, self.steps + 1))]

    def widget(self, name: str):
        import ipywidgets

        low, high = math.log10(self.low), math.log10(self.high)
        ends = {"min": low, "max": high, "step": (high - low) / self.steps}
        words = {"description": self.label or name, "readout_format": ".3g"}
        return ipywidgets.FloatLogSlider(**ends, value=self.value, **words)


@dataclass(frozen=True)
class Choice:
    """One of several values: a drop-down list, or a row of buttons with `buttons=True`.

    `options` is a sequence of values or a dict from the name shown to the value; the first is chosen unless
    `value` says other.
    """

    options: Sequence[Hashable] | Mapping[str, Hashable]
    value: Hashable = None
    label: str = ""
    buttons: bool = False

    def __post_init__(self):
        if not self.options:
            raise ValueError("options must hold at least one value; got none")
        if self.value is None:
            object.__setattr__(self, "value", self.sweep(1)[0])
        self.check("value", self.value)

    def check(self, name: str, value: Any) -> Any:
        known = self.sweep(len(self.options))
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}")
        return value

    def read(self, value: Any) -> Any:
        return value

    def sweep(self, count: int) -> list:
        values = list(self.options.values() if isinstance(self.options, Mapping) else self.options)
        return [values[k] for k in spread(len(values), count)]

    def widget(self, name: str):
        import ipywidgets

        options = list(self.options.items()) if isinstance(self.options, Mapping) else list(self.options)
        chosen = {"options": options, "value": self.value, "description": self.label or name}
        if self.buttons:
            buttons = ipywidgets.ToggleButtons(**chosen, style={"button_width": "auto"})
            buttons.add_class("jupyter-widgets").add_class("widget-inline-hbox")  # lost in ipywidgets 8.1: label above
            return buttons
        return ipywidgets.Dropdown(**chosen)


@dataclass(frozen=True)
class Switch:
    """On or off: a box to tick."""

    value: bool = False
    label: str = ""

    def check(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool | np.bool_):
            raise ValueError(f"{name} must be True or False; got {value!r}")
        return bool(value)

    def read(self, value: bool) -> bool:
        return value

    def sweep(self, count: int) -> list:
        return [False, True][:count]

    def widget(self, name: str):
        import ipywidgets

        return ipywidgets.Checkbox(value=self.value, description=self.label or name)


def spread(length: int, count: int) -> list[int]:
    """At most `count` indices from 0 to `length - 1`, ends included, evenly spread."""
    return [int(k) for k in np.linspace(0, length - 1, min(count, length)).round()]
