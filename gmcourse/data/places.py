"""Where image data lies: the repository's `datasets/`, the folder in $GMCOURSE_DATA, the user's cache.

Sets that come with the course are looked for in $GMCOURSE_DATA first (where it is set), then in `datasets/`.
Sets that are fetched go to $GMCOURSE_DATA/NAME, or to NAME in the system's cache folder (`~/.cache/gmcourse`
on Linux).
"""

import os
from pathlib import Path

import pooch

VARIABLE = "GMCOURSE_DATA"
DATASETS = Path(__file__).resolve().parents[2] / "datasets"


def chosen_folder() -> Path | None:
    """The folder that $GMCOURSE_DATA names, or None where it is unset or empty."""
    value = os.environ.get(VARIABLE)
    return Path(value).expanduser() if value else None


def shipped_folders() -> tuple[Path, ...]:
    """Folders in which the sets that come with the course are looked for, in this order."""
    chosen = chosen_folder()
    return (DATASETS,) if chosen is None else (chosen, DATASETS)


def cache_folder(name: str) -> Path:
    """The folder in which the files of the fetched set `name` are kept; it need not exist yet."""
    return (chosen_folder() or Path(pooch.os_cache("gmcourse"))) / name
