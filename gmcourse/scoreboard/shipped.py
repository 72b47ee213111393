"""The results that come with the course: one board for each data set, made by `gmcourse scoreboard`.

Points had 30 seconds of a core, images one minute. `fashion_mnist_long` is of the zoo's weights, `--zoo`, each of which was
trained for as long as its recipe says. `autoencoders_mnist`, `…_fashion_mnist` and `…_emoji` are of the recipes of
chapter 8 at 1000 steps each. `tilted_gaussians25`, `tilted_mnist` and `tilted_fashion_mnist` are of those of chapter 9, at
their own steps; bases are the zoo's, and those of images show means, as what tilts them does. `short_run_swiss_roll`,
`…_gaussian_grid9`, `…_mnist` and `…_fashion_mnist` are of those of chapter 10, at their own steps, `ddgan_gaussians25` of
chapter 11's. All these shared their cores with other work, so their seconds compare nothing.
"""

from pathlib import Path

from gmcourse.metrics.scoreboard import Board

FOLDER = Path(__file__).parent / "results"


def results(data: str) -> Board:
    """The board of that name that comes with the course. ValueError lists what there is.

    >>> results("nope")
    Traceback (most recent call last):
    ...
    ValueError: data must be one of ...; got 'nope'
    """
    there = sorted(path.parent.name for path in FOLDER.glob("*/scoreboard.json"))
    if data not in there:
        raise ValueError(f"data must be one of {', '.join(there) or 'none'}; got {data!r}")
    return Board.read(FOLDER / data)
