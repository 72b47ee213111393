"""One look for every picture: the seaborn theme, 80 dots per inch, colours safe for colour-blind eyes.

Nothing changes on import. A notebook calls `style.use()` once; pictures that never touch pyplot (the
explorers') wrap their drawing in `style.context()` and so look the same whatever the notebook has set. The
theme is the one that ships inside matplotlib ("seaborn-v0_8-*"), so that seaborn and pandas need not be
imported for it (two seconds); fonts come with matplotlib as well, which makes pictures equal on every
machine. Densities go from white (nothing) to dark blue, samples and arrows are drawn over them in orange
and dark grey: they stay apart in grey print, too.
"""

from contextlib import AbstractContextManager
from functools import cache

import matplotlib
from matplotlib import cycler
from matplotlib.colors import LinearSegmentedColormap

DPI = 80
# seaborn's "colorblind" palette
PALETTE = tuple(f"#{rgb}" for rgb in "0173b2 de8f05 029e73 d55e00 cc78bc ca9161 fbafe4 949494 ece133 56b4e9".split())
BLUE, ORANGE, GREEN, VERMILION = PALETTE[:4]
INK = "#262626"
DENSITY = LinearSegmentedColormap.from_list("gmcourse-density", ("#ffffff", "#b5d5eb", BLUE, "#012c45"))
PLATE = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 2}  # behind words on a picture


@cache
def params() -> dict:
    """The rcParams of the course's look, on top of matplotlib's own."""
    from matplotlib import style as styles

    theme = styles.library["seaborn-v0_8-notebook"] | styles.library["seaborn-v0_8-ticks"]
    return dict(theme) | {
        "figure.dpi": DPI,
        "savefig.dpi": DPI,
        "figure.figsize": (5.0, 4.0),
        "figure.constrained_layout.use": True,
        "font.sans-serif": ["DejaVu Sans"],
        "axes.prop_cycle": cycler(color=PALETTE),
        "axes.linewidth": 1.0,
        "axes.edgecolor": INK,
        "axes.titlesize": 12,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.major.size": 4,
        "ytick.major.size": 4,
        "xtick.major.pad": 4,
        "ytick.major.pad": 4,
        "grid.color": "0.88",
        "image.cmap": DENSITY.name,
        "legend.frameon": False,
    }


def use() -> None:
    """Give this notebook's pictures the course's look.

    >>> from gmcourse.viz import style
    >>> style.use()
    """
    matplotlib.rcParams.update(params())


def context() -> AbstractContextManager:
    """The same look inside a `with` block only."""
    return matplotlib.rc_context(params())


if DENSITY.name not in matplotlib.colormaps:
    matplotlib.colormaps.register(DENSITY)
