"""Explorers: sliders on the left, a picture that follows them on the right.

An explorer is two functions and a table of controls. `compute(**values)` is pure: from the controls' values
to data, the slow parts prepared beforehand. `draw(axes, data)` puts the data on axes that live as long as
the explorer (see `canvas`), or returns a uint8 array `(h, w)` or `(h, w, 3)`, which becomes the picture as
it is (sample grids: `mosaic.mosaic_array`). The picture is a PNG in an `ipywidgets.Image`; one move of a
slider takes less than 50 ms on one core. While the kernel is busy the browser holds back all moves but the
last, so the picture always ends at the value under the thumb.

The same object needs no notebook: `picture(**values)` returns the PNG. Shown in a page without a kernel it
is a still picture, because its output carries the PNG beside the widget. An error in `compute` or `draw` is
written where the picture would be.

A live picture may answer the pointer, too: `hotspots(axes, data)` names discs of it with something to say. They are
laid over the image as HTML whose style sheet shows what belongs to the disc under the pointer; no script runs.
"""

import base64
import inspect
import io
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import prod
from pathlib import Path
from typing import Any

from PIL import Image

from gmcourse.viz.canvas import Canvas, message
from gmcourse.viz.controls import Control

TRACK = 17  # width of a control beside its label, in letter heights
HOVER = """<style>
.gmcourse-hotspot {position: absolute; border-radius: 50%; outline: none}
.gmcourse-hotspot:hover, .gmcourse-hotspot:focus {z-index: 1; box-shadow: 0 0 0 2px #262626}
.gmcourse-hotspot > div {display: none; position: absolute; pointer-events: none; width: max-content; gap: 8px;
  padding: 6px; background: white; color: #262626; border: 1px solid #949494; border-radius: 3px;
  font-size: 11px; line-height: 1.3; white-space: pre-line}
.gmcourse-hotspot:hover > div, .gmcourse-hotspot:focus > div {display: flex}
.gmcourse-hotspot span::first-line {font-weight: bold}
.gmcourse-hotspot img {align-self: flex-start; max-width: none; margin: 0}
</style>"""


@dataclass(frozen=True)
class Hotspot:
    """A disc of the picture that answers the pointer.

    `x`, `y` and `radius` are pixels from the picture's left and upper edge; `words` may have several lines, the first
    in bold; `thumbnail` is a small PNG, shown beside the words as large as it is, or empty.
    """

    x: float
    y: float
    radius: float
    words: str
    thumbnail: bytes = b""

    def html(self, width: float, height: float) -> str:
        """The disc on a picture of this size, what it says turned towards the picture's middle."""
        side = "left" if self.x < width / 2 else "right"
        edge = "top" if self.y < height / 2 else "bottom"
        at = f"left: {self.x - self.radius:.1f}px; top: {self.y - self.radius:.1f}px"
        size = f"width: {2 * self.radius:.1f}px; height: {2 * self.radius:.1f}px"
        data = base64.b64encode(self.thumbnail).decode("ascii")
        image = f'<img alt="" src="data:image/png;base64,{data}">' if data else ""
        says = f'<div style="{side}: calc(100% + 4px); {edge}: 0">{image}<span>{escape(self.words)}</span></div>'
        return f'<div class="gmcourse-hotspot" tabindex="0" style="{at}; {size}">{says}</div>'


class Explorer:
    """A picture of `compute(**values)` that follows its controls.

    `compute(**values) -> data` and `draw(axes, data)` as above; `controls` maps names of `compute`'s
    arguments to controls. `backdrop(axes)` draws what stands still, once: with it, `draw` only adds to it
    (on top of it), which is about three times as fast. Colour bars belong in the backdrop. `panels` is
    (rows, columns) of axes, `size` (width, height) in inches at 80 dpi, `caption` a plain sentence shown
    below the picture and, where no picture can be shown, in its place. `hotspots(axes, data)`, called when the
    data are drawn, returns the places of the picture that answer the pointer; later ones lie above earlier ones.

    >>> from gmcourse.viz import Slider
    >>> slope = Slider(-1, 1, 0.1, 0.5)
    >>> line = Explorer(lambda slope: [0, slope], lambda ax, y: ax.plot(y), {"slope": slope})
    >>> line.picture(slope=1)[1:4]
    b'PNG'
    """

    def __init__(
        self,
        compute: Callable[..., Any],
        draw: Callable[[Any, Any], Any],
        controls: Mapping[str, Control],
        *,
        backdrop: Callable[[Any], Any] | None = None,
        panels: tuple[int, int] = (1, 1),
        size: tuple[float, float] = (5.0, 4.0),
        caption: str = "",
        hotspots: Callable[[Any, Any], Sequence[Hotspot]] | None = None,
    ):
        if not controls:
            raise ValueError("controls must name at least one control; got none")
        self.controls = dict(controls)
        self.caption = caption
        self.error: Exception | None = None
        self._values = {name: control.value for name, control in controls.items()}
        inspect.signature(compute).bind(**self._values)
        self._compute, self._draw, self._backdrop, self._hotspots = compute, draw, backdrop, hotspots
        self._panels, self._size = panels, size
        self._canvas: Canvas | None = None
        self._box = self._overlay = None

    @property
    def values(self) -> dict[str, Any]:
        """The controls' present values."""
        return dict(self._values)

    def picture(self, **values: Any) -> bytes:
        """The PNG at these values, the other controls as they stand; moves nothing.

        Raises ValueError for an unknown control or a value out of range, and whatever `compute` and `draw`
        raise.
        """
        return self._paint(values)[0]

    def hotspots(self, **values: Any) -> list[Hotspot]:
        """What of the picture at these values answers the pointer, and how; raises as `picture` does."""
        return self._answers(self._paint(values)[1])

    def set(self, **values: Any) -> None:
        """Move controls to these values, as a reader's hand would, and show the picture there.

        Raises ValueError for an unknown control or a value out of range; then nothing has moved.
        """
        self._values |= self._checked(values)
        if self._box is not None:
            for name in values:
                self._inputs[name].unobserve(self._moved, "value")
                self._inputs[name].value = self._values[name]
                self._inputs[name].observe(self._moved, "value")
            self._show()

    @property
    def widget(self):
        """The live widget: controls on the left, picture and caption on the right."""
        self._build()
        return self._box

    @property
    def inputs(self) -> dict[str, Any]:
        """The widget of each control."""
        self._build()
        return dict(self._inputs)

    @property
    def image(self):
        """The `ipywidgets.Image` that shows the picture."""
        self._build()
        return self._image

    def _paint(self, values: dict[str, Any]) -> tuple[bytes, Any]:
        data = self._compute(**(self._values | self._checked(values)))
        if self._canvas is None:
            self._canvas = Canvas(self._draw, self._first, self._backdrop, self._panels, self._size)
        return self._canvas.picture(data), data

    def _answers(self, data: Any) -> list[Hotspot]:
        if self._hotspots is None:
            return []
        axes = self._canvas.figure.axes[: prod(self._panels)]
        return list(self._hotspots(axes[0] if len(axes) == 1 else axes, data))

    def _first(self) -> Any:
        return self._compute(**{name: control.value for name, control in self.controls.items()})

    def _checked(self, values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            if name not in self.controls:
                known = ", ".join(self.controls)
                raise ValueError(f"{name!r} is no control of this explorer; it has {known}")
        return {name: self.controls[name].check(name, value) for name, value in values.items()}

    def _moved(self, change: Any) -> None:
        name = next(name for name, widget in self._inputs.items() if widget is change["owner"])
        self._values[name] = self.controls[name].read(change["new"])
        self._show()

    def _show(self) -> None:
        try:
            picture, data = self._paint({})
            answers, self.error = self._answers(data), None
        except Exception as error:
            picture, answers, self.error = message(self._report(error), self._size), [], error
        width, height = Image.open(io.BytesIO(picture)).size
        with self._image.hold_sync():
            self._image.value, self._image.width, self._image.height = picture, str(width), str(height)
        if self._overlay is not None:
            discs = "".join(answer.html(width, height) for answer in answers)
            self._overlay.value = f'{HOVER}<div style="position: relative; width: {width}px">{discs}</div>'

    def _report(self, error: Exception) -> str:
        place = traceback.extract_tb(error.__traceback__)[-1]
        at = ", ".join(f"{name} = {value!r}" for name, value in self._values.items())
        return (
            f"This picture could not be drawn.\n\n{type(error).__name__}: {error}\n\n"
            f"in {place.name}, line {place.lineno} of {Path(place.filename).name}\nat {at}"
        )

    def _build(self) -> None:
        if self._box is not None:
            return
        import ipywidgets

        self._inputs = {name: control.widget(name) for name, control in self.controls.items()}
        words = 0.55 * max(len(widget.description) for widget in self._inputs.values()) + 1
        for name, widget in self._inputs.items():
            widget.value = self._values[name]
            widget.style.description_width, widget.layout.width = f"{words}em", f"{words + TRACK}em"
            widget.observe(self._moved, "value")
        self._image = ipywidgets.Image(format="png", layout={"flex": "0 0 auto"})
        right = [self._image if self._hotspots is None else self._layers()]
        self._show()
        if self.caption:
            narrow = "calc(100% - 4px)"  # a page may be narrower than the picture, which it shrinks; 4px are the margins
            layout = {"width": f"{self._image.width}px", "max_width": narrow}
            words = f'<p style="line-height: 1.35; margin: 0.3em 0">{escape(self.caption)}</p>'
            right.append(ipywidgets.HTML(words, layout=layout))
        self._box = ipywidgets.Box(
            [ipywidgets.VBox(list(self._inputs.values())), ipywidgets.VBox(right)],
            layout={"display": "flex", "flex_flow": "row wrap", "align_items": "flex-start"},
        )

    def _layers(self):
        """The image and, in the same cell of a grid, what lies over it."""
        import ipywidgets

        self._overlay = ipywidgets.HTML(layout={"overflow": "visible"})
        for layer in (self._image, self._overlay):
            layer.layout.grid_area, layer.layout.margin = "1 / 1", "2px"
        look = {"overflow": "visible", "flex": "0 0 auto", "align_items": "flex-start"}
        return ipywidgets.GridBox([self._image, self._overlay], layout=look)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        still = base64.b64encode(self.image.value).decode("ascii")
        words = f"Explorer: {self.caption or ', '.join(self.controls)}"
        return self.widget._repr_mimebundle_() | {"text/plain": words, "image/png": still}
