"""Seeing: plots with one look, fast sample grids, and explorers whose sliders move a picture.

`style.use()` once in a notebook; `plots.density`, `plots.samples`, … draw on any axes; `Explorer` makes a
picture live. Neither pyplot nor ipywidgets is imported before something needs it.
"""

from gmcourse.viz import plots, style
from gmcourse.viz.controls import Choice, LogSlider, Slider, Switch
from gmcourse.viz.explorer import Explorer
from gmcourse.viz.mosaic import mosaic_array, png

__all__ = ["Choice", "Explorer", "LogSlider", "Slider", "Switch", "mosaic_array", "plots", "png", "style"]
