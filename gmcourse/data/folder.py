"""Images from a folder: one's own, CelebA's aligned faces, LSUN's churches.

A picture is turned upright (EXIF), put on white where it is transparent, cropped to its central square and
resized (bicubic). Splits: where the folder has `train/` and `test/`, these; otherwise a tenth of the
pictures, chosen by a checksum of their path within the folder, is the test set, so that a picture keeps its
side when others come or go. The order within a split is by that checksum too: the first k images are a fair
sample. Classes are subfolders.

CelebA has its published split by number (1...162770 train, 182638... test) and the usual crop of 148 x 148
around the face. LSUN's lmdb archives are not read: export their images to a folder first.
"""

import re
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from gmcourse.data.errors import SPLITS, DataCorrupt, DataUnavailable, check_split
from gmcourse.data.formats import scale

Box = tuple[int, int, int, int]  # left, upper, right, lower
Splits = dict[str, list[tuple[Path, Path]]]  # split -> (picture, folder that its class is counted from)

SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
MODES = {1: "L", 3: "RGB"}
CELEBA_SIZE, FACE = (178, 218), (15, 40, 163, 188)
CELEBA_TRAIN, CELEBA_TEST = range(1, 162771), range(182638, 202600)


def load_folder(root: str | Path, split: str = "train", *, size: int = 32, channels: int = 3,
                limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Images `(n, channels, size, size)` in [-1, 1] and labels `(n,)`: the index in `folder_classes(root)`.

    `limit` keeps the first so many and decodes no more. Raises `ValueError` without images, `DataCorrupt`
    for a file that is no image.
    """
    found = _splits(root)
    classes = _classes(found)
    paths = _chosen(found, split, root)[:limit]
    labels = [classes.index(_class(path, base)) for path, base in paths]
    return _decode([path for path, _ in paths], size, channels), torch.tensor(labels)


def folder_classes(root: str | Path) -> tuple[str, ...]:
    """Names of the subfolders that hold images, sorted; `("",)` where the images lie in the folder itself."""
    return _classes(_splits(root))


def load_celeba(root: str | Path, split: str = "train", *, size: int = 64,
                limit: int | None = None) -> tuple[Tensor, Tensor]:
    """CelebA's aligned faces `000001.jpg`, ... in `root` or its `img_align_celeba`, cropped; labels are 0."""
    check_split(split)
    wanted = CELEBA_TRAIN if split == "train" else CELEBA_TEST
    inner = Path(root).expanduser() / "img_align_celeba"
    pictures = _images(inner if inner.is_dir() else root)
    paths = [path for path in pictures if re.fullmatch(r"\d{6}", path.stem) and int(path.stem) in wanted]
    if not paths:
        raise ValueError(f"root must hold CelebA's pictures {wanted[0]:06d}.jpg to {wanted[-1]:06d}.jpg "
                         f"for split {split!r}; {root} has none of them")
    paths = sorted(paths, key=lambda path: _checksum(path.name))[:limit]
    return _decode(paths, size, 3, box=FACE), torch.zeros(len(paths), dtype=torch.long)


def load_lsun(root: str | Path, split: str = "train", *, size: int = 64,
              limit: int | None = None) -> tuple[Tensor, Tensor]:
    """LSUN's churches (or another of its scenes) from a folder of images at any depth; all labels are 0."""
    root = Path(root).expanduser()
    if root.is_dir() and any(root.rglob("data.mdb")):
        raise ValueError(f"root must be a folder of images; {root} holds an lmdb archive (data.mdb): "
                         "export its images first")
    paths = _chosen(_splits(root), split, root)[:limit]
    return _decode([path for path, _ in paths], size, 3), torch.zeros(len(paths), dtype=torch.long)


def _images(root: str | Path) -> list[Path]:
    """All image files below `root`, hidden ones left out, in no particular order."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataUnavailable(f"root must be a folder of images; there is no folder {root}. "
                              "load_images('emoji') needs none.")
    paths = [path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES
             and not any(part.startswith(".") for part in path.relative_to(root).parts)]
    if not paths:
        raise ValueError(f"root must hold images ({' '.join(sorted(SUFFIXES))}); {root} has none")
    return paths


def _splits(root: str | Path) -> Splits:
    """The pictures of each split in their order, each with the folder that its class is counted from."""
    root = Path(root).expanduser()
    paths = sorted((_checksum(path.relative_to(root).as_posix()), path) for path in _images(root))
    if any((root / split).is_dir() for split in SPLITS):
        return {split: [(path, root / split) for _, path in paths if path.is_relative_to(root / split)]
                for split in SPLITS}
    return {"train": [(path, root) for checksum, path in paths if checksum % 10],
            "test": [(path, root) for checksum, path in paths if checksum % 10 == 0]}


def _chosen(found: Splits, split: str, root: str | Path) -> list[tuple[Path, Path]]:
    check_split(split)
    if not found[split]:
        raise ValueError(f"split {split!r} of {root} is empty; "
                         "put its pictures into subfolders train and test to divide them yourself")
    return found[split]


def _class(path: Path, base: Path) -> str:
    inner = path.relative_to(base).parts
    return inner[0] if len(inner) > 1 else ""


def _classes(found: Splits) -> tuple[str, ...]:
    return tuple(sorted({_class(path, base) for pictures in found.values() for path, base in pictures}))


def _checksum(name: str) -> int:
    return zlib.crc32(name.encode(errors="surrogateescape"))


def _decode(paths: list[Path], size: int, channels: int, box: Box | None = None) -> Tensor:
    if channels not in MODES:
        raise ValueError(f"channels must be 1 or 3; got {channels}")
    if size < 1:
        raise ValueError(f"size must be at least 1; got {size}")
    pixels = np.empty((len(paths), channels, size, size), np.uint8)
    for row, path in zip(pixels, paths, strict=True):
        row[:] = _picture(path, size, MODES[channels], box)
    return scale(pixels)


def _picture(path: Path, size: int, mode: str, box: Box | None) -> np.ndarray:
    """One picture as uint8 of shape `(c, size, size)`."""
    try:
        with Image.open(path) as file:
            picture = ImageOps.exif_transpose(file)
            if box is not None and picture.size != CELEBA_SIZE:
                raise DataCorrupt(f"{path}: must have 178 x 218 pixels, as in CelebA; got {picture.size}")
            if picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
            picture = picture.convert(mode).crop(box)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DataCorrupt(f"{path}: not an image that Pillow can read ({error})") from error
    picture = ImageOps.fit(picture, (size, size), method=Image.Resampling.BICUBIC)
    return np.asarray(picture).reshape(size, size, -1).transpose(2, 0, 1)
