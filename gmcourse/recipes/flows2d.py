"""Recipes of chapter 3 in the plane: every kind of flow on the same data, and the spline flow on all of them."""

from collections.abc import Callable
from functools import partial

from gmcourse.data import toy2d
from gmcourse.fit import cosine
from gmcourse.flows import iaf, maf, neural_spline_flow, nice, real_nvp
from gmcourse.flows.builders_free import ffjord, planar_flow, radial_flow, residual_flow, sylvester_flow
from gmcourse.flows.flow import Flow
from gmcourse.recipes.measures import gap_to_truth
from gmcourse.recipes.recipe import Recipe

_FIT = {"batch_size": 512, "lr": 3e-3, "schedule": cosine(0.05), "clip": 5.0}
_SPLINES = partial(neural_spline_flow, bins=32, bound=3.0)

# name: builder, steps
KINDS: dict[str, tuple[Callable[[], Flow], int]] = {
    "nice": (nice, 1500),
    "real_nvp": (real_nvp, 1500),
    "maf": (maf, 1500),
    "iaf": (iaf, 1500),
    "spline": (_SPLINES, 1500),
    "spline_ar": (partial(_SPLINES, kind="autoregressive"), 1500),
    "planar": (planar_flow, 3000),
    "radial": (radial_flow, 3000),
    "sylvester": (sylvester_flow, 2000),
    "residual": (residual_flow, 1200),
    "ffjord": (partial(ffjord, hidden=(48, 48, 48), steps=6), 600),
}


# sets with edges, thin arms or many modes take more
HARD: dict[tuple[str, str], tuple[Callable[[], Flow], int]] = {
    ("spline", "swiss_roll"): (_SPLINES, 4000),
    ("spline", "checkerboard"): (partial(_SPLINES, layers=4), 4000),
    ("real_nvp", "gaussians25"): (partial(real_nvp, layers=12), 3000),
}


def _recipe(kind: str, data: str) -> Recipe:
    builder, steps = HARD.get((kind, data), KINDS[kind])
    summary = f"{kind.replace('_', ' ')} flow on {data.replace('_', ' ')}"
    family = "flow" if kind == "spline" else None  # the best of them speaks for all
    return Recipe(f"flow_{kind}_{data}", summary, builder, data, gap_to_truth, {**_FIT, "steps": steps}, family=family)


RECIPES = (
    *(_recipe(kind, "two_moons") for kind in KINDS),
    *(_recipe("spline", data) for data in toy2d.NAMES if data != "two_moons"),
    _recipe("real_nvp", "gaussians25"),
)
