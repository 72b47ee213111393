"""Small real images: `load_images(name, split)` gives tensors `(n, c, h, w)` in [-1, 1] and labels `(n,)`.

=====================  ==========  ===============  =======================================================
name                   shape       train + test     where it comes from
=====================  ==========  ===============  =======================================================
`digits`               1 x 8 x 8   1437 + 360       with the course; scikit-learn's handwritten digits
`mnist`                1 x 28 x 28 4000 + 1000      with the course; 500 genuine MNIST digits of each class
`fashion_mnist`        1 x 28 x 28 10000 + 2000     with the course; balanced
`emoji`                3 x 32 x 32 1721 + 190       with the course; Noto emoji on white, labelled by category
`stacked_mnist`        3 x 28 x 28 10000 + 2000     built from `mnist`: three digits as R, G, B, 1000 modes
`mnist_full`           1 x 28 x 28 60000 + 10000    fetched, 11 MB
`fashion_mnist_full`   1 x 28 x 28 60000 + 10000    fetched, 30 MB
`cifar10`              3 x 32 x 32 50000 + 10000    fetched, 170 MB (binary version: nothing is unpickled)
`svhn`                 3 x 32 x 32 73257 + 26032    fetched, 182 + 64 MB (cropped digits)
`celeba`, `lsun`       3 x 64 x 64 as found         a folder of yours: `root=`
`folder`               3 x 32 x 32 as found         a folder of yours: `root=`; see `gmcourse.data.folder`
=====================  ==========  ===============  =======================================================

The first five need no network and load in well under 0.3 s. Nothing is fetched on import. The digits of
`mnist` are part of MNIST: do not test on them what was trained on `mnist_full`.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gmcourse.data import published, shipped
from gmcourse.data.errors import DataCorrupt, DataUnavailable, check_split
from gmcourse.data.folder import folder_classes, load_celeba, load_folder, load_lsun
from gmcourse.data.formats import scale
from gmcourse.data.stacked import stacked_mnist

__all__ = ["NAMES", "OFFLINE", "SHAPES", "DataCorrupt", "DataUnavailable", "class_names", "emoji_names", "load_images",
           "stacked_mnist"]

STACKED = {"train": 10_000, "test": 2_000}
FOLDERS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "celeba": load_celeba, "lsun": load_lsun, "folder": load_folder}

OFFLINE = (*shipped.SHIPPED, "stacked_mnist")
NAMES = (*OFFLINE, *published.PUBLISHED, *FOLDERS)
SHAPES = {"digits": (1, 8, 8), "mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "emoji": (3, 32, 32),
          "stacked_mnist": (3, 28, 28)}  # (c, h, w) of the offline sets, for nets that are built before data are loaded


def load_images(name: str, split: str = "train", *, root: str | Path | None = None,
                limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images, float32 `(n, c, h, w)` in [-1, 1], and labels, long `(n,)`, of one of `NAMES`.

    `split` is "train" or "test". `root` is the folder to read from: `celeba`, `lsun` and `folder` need it;
    for the others it replaces the search (see `gmcourse.data.places`) and nothing is fetched.
    `limit` keeps the first so many.

    Raises `ValueError` for an unknown name or split and a missing root, `DataUnavailable` (an `OSError`) for
    a file that is not here and can't be fetched, `DataCorrupt` (a `ValueError`) for a damaged one.

    >>> images, labels = load_images("digits", "test")
    >>> images.shape, labels[:5].tolist()
    (torch.Size([360, 1, 8, 8]), [9, 7, 9, 0, 3])
    """
    _check_name(name)
    check_split(split)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1; got {limit}")
    if name in FOLDERS:
        return FOLDERS[name](_need_root(name, root), split, limit=limit)
    if name == "stacked_mnist":
        if root is not None:
            raise ValueError(f"root must be None for stacked_mnist, made from mnist; got {root!r}")
        return stacked_mnist(min(limit or STACKED[split], STACKED[split]), split=split)
    if name in shipped.SHIPPED:
        content, top = shipped.arrays(name, split, root), shipped.SHIPPED[name].top
        images, labels = content["images"], content["labels"]
    else:
        (images, labels), top = published.arrays(name, split, root), 255
    return scale(images[:limit], top), torch.from_numpy(labels[:limit]).long()


def class_names(name: str, *, root: str | Path | None = None) -> tuple[str, ...]:
    """What the labels of a set mean: `class_names(name)[label]`. `folder` needs `root`, its subfolders.

    >>> class_names("fashion_mnist")[9]
    'Ankle boot'
    """
    _check_name(name)
    if name == "folder":
        return folder_classes(_need_root(name, root))
    if name == "stacked_mnist":
        return tuple(f"{label:03d}" for label in range(1000))
    if name in FOLDERS:
        return {"celeba": ("face",), "lsun": ("scene",)}[name]
    return (shipped.SHIPPED.get(name) or published.PUBLISHED[name]).classes


def emoji_names(split: str = "train") -> tuple[str, ...]:
    """The short name of each picture of `emoji`, in the order of `load_images("emoji", split)`."""
    return tuple(shipped.arrays("emoji", split)["names"].astype(str).tolist())


def _check_name(name: str) -> None:
    if name not in NAMES:
        raise ValueError(f"name must be one of {', '.join(NAMES)}; got {name!r}")


def _need_root(name: str, root: str | Path | None) -> str | Path:
    if root is None:
        raise ValueError(f"root must be the folder that holds the images of {name!r}; got None")
    return root
