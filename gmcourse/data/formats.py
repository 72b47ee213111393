"""Bytes on disk to arrays of pixels: IDX, CIFAR-10's binary version, SVHN's `.mat`, and the way to a tensor.

IDX (MNIST, Fashion-MNIST): two zero bytes, a type (8 = unsigned byte), the number of dimensions, each size as
a big-endian 32-bit integer, then the data; usually gzipped. CIFAR-10 binary: records of 1 label byte and 3 x
32 x 32 pixel bytes, planes R, G, B, in `data_batch_1.bin` ... `data_batch_5.bin` and `test_batch.bin` of one
tar archive. SVHN (cropped): MATLAB v5 with `X` of shape (32, 32, 3, n) and `y` of shape (n, 1), where label
10 is the digit 0.

Each reader gives `uint8` images `(n, c, h, w)` (IDX: the array as it is) and `int64` labels `(n,)`, and
raises `DataCorrupt`, naming path and reason, for anything else. Nothing is unpickled.
"""

import gzip
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gmcourse.data.errors import DataCorrupt, check_split

CIFAR10_RECORD = 1 + 3 * 32 * 32
_BROKEN = (OSError, EOFError, zlib.error, tarfile.TarError)  # what gzip and tarfile raise on damaged archives


def scale(images: np.ndarray, top: int = 255) -> Tensor:
    """Map pixel values 0...`top` linearly to [-1, 1]; same shape, float32.

    >>> scale(np.array([0, 255], dtype=np.uint8))
    tensor([-1.,  1.])
    """
    pixels = torch.from_numpy(np.require(images, requirements="W"))
    return pixels.to(torch.float32).div_(top / 2).sub_(1)


def read_idx(path: str | Path) -> np.ndarray:
    """The array of unsigned bytes in an IDX file, gzipped or plain, in the shape that its header states."""
    raw = Path(path).read_bytes()
    if raw[:2] == b"\x1f\x8b":
        try:
            raw = gzip.decompress(raw)
        except _BROKEN as error:
            raise DataCorrupt(f"{path}: broken gzip stream ({error})") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08":
        begin = raw[:4].hex(" ") or "nothing"
        raise DataCorrupt(f"{path}: not an IDX file of unsigned bytes (00 00 08 ..); it begins with {begin}")
    head = 4 + 4 * raw[3]
    if len(raw) < head:
        raise DataCorrupt(f"{path}: ends within the IDX header, after {len(raw)} of {head} bytes")
    shape = struct.unpack(f">{raw[3]}I", raw[4:head])
    if len(raw) - head != np.prod(shape, dtype=np.int64):
        raise DataCorrupt(f"{path}: {len(raw) - head} bytes of data, but the IDX header says {shape}")
    return np.frombuffer(raw, np.uint8, offset=head).reshape(shape)


def read_idx_pair(images: str | Path, labels: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 1, h, w)` and labels `(n,)` from two IDX files that belong together."""
    x, y = read_idx(images), read_idx(labels)
    if x.ndim != 3 or y.shape != x.shape[:1]:
        raise DataCorrupt(f"{images}: shape {x.shape} does not go with {Path(labels).name}, shape {y.shape}")
    return x[:, None], y.astype(np.int64)


def read_cifar10(path: str | Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 3, 32, 32)` and labels `(n,)` from `cifar-10-binary.tar.gz`, batches in their order."""
    check_split(split)
    wanted = [f"data_batch_{i}.bin" for i in range(1, 6)] if split == "train" else ["test_batch.bin"]
    batches: dict[str, bytes] = {}
    with open(path, "rb") as file:
        try:
            with tarfile.open(fileobj=file) as archive:
                for member in archive:
                    name = member.name.rsplit("/", 1)[-1]
                    if name in wanted and member.isfile():
                        batches[name] = archive.extractfile(member).read()
        except _BROKEN as error:
            raise DataCorrupt(f"{path}: broken tar archive ({error})") from error
    if missing := [name for name in wanted if name not in batches]:
        raise DataCorrupt(f"{path}: no {', '.join(missing)} in it; is it the binary version of CIFAR-10?")
    for name, raw in batches.items():
        if not raw or len(raw) % CIFAR10_RECORD:
            raise DataCorrupt(f"{path}: {name} has {len(raw)} bytes, not a multiple of {CIFAR10_RECORD}")
    records = np.frombuffer(b"".join(batches[name] for name in wanted), np.uint8).reshape(-1, CIFAR10_RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        raise DataCorrupt(f"{path}: labels must lie in 0...9; got {labels.max()}")
    return records[:, 1:].reshape(-1, 3, 32, 32), labels


def read_svhn(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, 3, 32, 32)` and labels 0...9 `(n,)` from a file of cropped digits, `train_32x32.mat`."""
    import scipy.io  # 0.25 s that only SVHN costs

    with open(path, "rb") as file:
        try:
            content = scipy.io.loadmat(file, variable_names=["X", "y"])
        except Exception as error:  # scipy raises what its parser meets: ValueError, TypeError, zlib.error
            raise DataCorrupt(f"{path}: not a MATLAB v5 file ({error})") from error
    if missing := {"X", "y"} - content.keys():
        raise DataCorrupt(f"{path}: no variable {', '.join(sorted(missing))} in it")
    images, labels = content["X"], content["y"].reshape(-1).astype(np.int64)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        got = f"{images.dtype} {images.shape}"
        raise DataCorrupt(f"{path}: X must be uint8 of shape (32, 32, 3, n); got {got}")
    if len(labels) != images.shape[3]:
        raise DataCorrupt(f"{path}: {images.shape[3]} images but {len(labels)} labels")
    if labels.min(initial=1) < 1 or labels.max(initial=1) > 10:
        raise DataCorrupt(f"{path}: labels must lie in 1...10; got {labels.min()}...{labels.max()}")
    return np.ascontiguousarray(images.transpose(3, 2, 0, 1)), labels % 10
