"""A slider that stops at given values only, each under its name: numbers that grow by ratios, and one that is marked.

A control as those of `gmcourse.viz.controls` are. Unlike a list it keeps the order under the hand, one stop beside the next.
"""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

from gmcourse.viz.controls import spread


@dataclass(frozen=True)
class Stops:
    """A slider over `options`, from the name shown to the value, in this order; it begins at `value`, or at the first.

    >>> Stops({"0": 0, "40, trained": 40, "400": 400}, 40, "steps").sweep(2)
    [0, 400]
    """

    options: Mapping[str, Hashable]
    value: Hashable = None
    label: str = ""

    def __post_init__(self):
        if len(self.options) < 2:
            raise ValueError(f"options must hold at least two stops; got {len(self.options)}")
        if self.value is None:
            object.__setattr__(self, "value", self.sweep(1)[0])
        self.check("value", self.value)

    def check(self, name: str, value: Any) -> Any:
        known = list(self.options.values())
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {value!r}")
        return known[known.index(value)]

    def read(self, value: Any) -> Any:
        return value

    def sweep(self, count: int) -> list:
        values = list(self.options.values())
        return [values[k] for k in spread(len(values), count)]

    def widget(self, name: str):
        import ipywidgets

        options = list(self.options.items())
        return ipywidgets.SelectionSlider(options=options, value=self.value, description=self.label or name)
