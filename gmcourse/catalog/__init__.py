"""Every system of the sources, one row each: where it lives, is taught, practised, explored and tested.

The rows of chapter NN are in `chNN.py`. A row is complete when all its references are given (the explorer
only where one is promised), and a test resolves each of them, so that no row can claim what is not there.

>>> from gmcourse import catalog
>>> [row.id for row in catalog.rows(chapter=2)]
['vae', 'iwae', 'posterior-collapse', 'prior-hole', 'hierarchical-vae']
"""

from gmcourse.catalog import (
    ch01,
    ch02,
    ch03,
    ch04,
    ch05,
    ch06,
    ch07,
    ch08,
    ch09,
    ch10,
    ch11,
    ch12,
    ch13,
    ch14,
)
from gmcourse.catalog.resolve import resolve, slug
from gmcourse.catalog.row import Row

__all__ = ["ROWS", "Row", "resolve", "rows", "slug"]

CHAPTERS = (ch01, ch02, ch03, ch04, ch05, ch06, ch07, ch08, ch09, ch10, ch11, ch12, ch13, ch14)
ROWS = tuple(row for chapter in CHAPTERS for row in chapter.ROWS)


def rows(chapter: int | None = None) -> tuple[Row, ...]:
    """All rows, or those of one chapter. Raises ValueError for a chapter without systems."""
    if chapter is None:
        return ROWS
    found = tuple(row for row in ROWS if row.chapter == chapter)
    if not found:
        raise ValueError(f"chapter must lie in 1 to {len(CHAPTERS)}; got {chapter}")
    return found
