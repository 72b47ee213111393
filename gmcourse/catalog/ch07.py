"""The systems of chapter 7, the trilemma."""

from gmcourse.catalog.row import Row

ROWS = (
    Row(
        "trilemma",
        "The scoreboard: quality, coverage, speed",
        "thesis 2.6, 6.1, Fig. 6.5",
        7,
        interactive=True,
    ),
)
