"""The image sets that come with the course: `datasets/NAME.npz`, read whole, checked, never unpickled.

Each file holds `uint8` images `(n, c, h, w)` and labels `(n,)` under `train_images, train_labels,
test_images, test_labels`; `emoji` has `train_names, test_names` (ASCII bytes) besides. Within a split the
order is a seeded shuffle, so that the first k images are a fair sample. Origin, licence and how each was
made: `datasets/README.md`. The digests below are the only place in code that states them;
`datasets/rebuild.py` compares with them.
"""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmcourse.data.errors import DataCorrupt, DataUnavailable, check_split
from gmcourse.data.places import VARIABLE, shipped_folders

DIGITS = tuple("0123456789")
GARMENTS = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
EMOJI_CATEGORIES = ("Smileys & Emotion", "People & Body", "Animals & Nature", "Food & Drink",
                    "Travel & Places", "Activities", "Objects", "Symbols", "Flags", "Component")


@dataclass(frozen=True)
class Shipped:
    """A set that comes with the course: SHA-256 of its npz, its class names, the pixel value that means 1."""

    sha256: str
    classes: tuple[str, ...]
    top: int = 255


SHIPPED = {
    "digits": Shipped("19924250d02d6ef6251dcf75621d426d28c42a8c0834bc43f298cb3a6503eb3b", DIGITS, top=16),
    "mnist": Shipped("487aeb0c3137c2ce24c76a095fe4288a6c186be6bb14cd1a772edce1e67ae352", DIGITS),
    "fashion_mnist": Shipped("5bbdf55a5a4e2885e1c13f905e364a68d50314b4ad17059df8e57b9477979519", GARMENTS),
    "emoji": Shipped("2e2a1afcbbff895560a22daf2999a5fb288aa0d35dbf720ad9850e028a5b6a5d", EMOJI_CATEGORIES),
}


def path(name: str, root: str | Path | None = None) -> Path:
    """Where `NAME.npz` lies: in `root`, else in $GMCOURSE_DATA or `datasets/`; or `DataUnavailable`."""
    folders = shipped_folders() if root is None else (Path(root).expanduser(),)
    for folder in folders:
        if (found := folder / f"{name}.npz").is_file():
            return found
    raise DataUnavailable(f"no {name}.npz in {' or '.join(map(str, folders))}. It comes with the course, in "
                          f"datasets/ of the repository: install from a clone, or set {VARIABLE} to a folder "
                          "that has the file. scikit-learn's load_digits() needs no file of the course.")


def arrays(name: str, split: str, root: str | Path | None = None) -> dict[str, np.ndarray]:
    """The arrays of one split, by name without the prefix: `images`, `labels`, for emoji `names`.

    Raises `DataUnavailable` when the file is missing, `DataCorrupt` when its SHA-256 is not the one stated
    here.
    """
    check_split(split)
    found = path(name, root)
    raw = found.read_bytes()
    if (digest := hashlib.sha256(raw).hexdigest()) != SHIPPED[name].sha256:
        raise DataCorrupt(f"{found}: damaged or of another version; its SHA-256 is {digest}, expected "
                          f"{SHIPPED[name].sha256}. Take it from the repository again, or run rebuild.py")
    with np.load(io.BytesIO(raw), allow_pickle=False) as content:
        return {key.removeprefix(f"{split}_"): content[key] for key in content.files if key.startswith(split)}
