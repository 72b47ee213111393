"""The full sets that others publish: MNIST, Fashion-MNIST, CIFAR-10 (binary) and SVHN (cropped digits).

All digests are SHA-256. Those of the files at the addresses are as TensorFlow Datasets' checksum lists
publish them. Those of Fashion-MNIST were also computed here: Debian's package dataset-fashion-mnist holds the
same compressed streams without the file name in the gzip header; with it and the time stamp put back,
Zalando's digest comes out. The second digest of these files is Debian's packing, so that
`root="/usr/share/datasets/fashion-mnist"` works as it stands. SVHN's `extra` images are not used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmcourse.data.download import Published, fetch, require
from gmcourse.data.errors import check_split
from gmcourse.data.formats import read_cifar10, read_idx_pair, read_svhn
from gmcourse.data.places import cache_folder
from gmcourse.data.shipped import DIGITS, GARMENTS

MNIST = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
FASHION = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
CIFAR10 = ("https://www.cs.toronto.edu/~kriz/",)
SVHN = ("http://ufldl.stanford.edu/housenumbers/",)


@dataclass(frozen=True)
class PublishedSet:
    """A full set: files of each split, reader of their paths, class names, offline set to use instead."""

    files: dict[str, tuple[Published, ...]]
    read: Callable[[list[Path], str], tuple[np.ndarray, np.ndarray]]
    classes: tuple[str, ...]
    instead: str


def _file(folders: tuple[str, ...], name: str, *sha256: str) -> Published:
    return Published(name, tuple(folder + name for folder in folders), sha256)


CIFAR10_ARCHIVE = _file(CIFAR10, "cifar-10-binary.tar.gz",
                        "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd")

PUBLISHED = {
    "mnist_full": PublishedSet(
        {"train": (_file(MNIST, "train-images-idx3-ubyte.gz",
                         "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
                   _file(MNIST, "train-labels-idx1-ubyte.gz",
                         "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c")),
         "test": (_file(MNIST, "t10k-images-idx3-ubyte.gz",
                        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
                  _file(MNIST, "t10k-labels-idx1-ubyte.gz",
                        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"))},
        lambda paths, split: read_idx_pair(*paths), DIGITS, "mnist"),
    "fashion_mnist_full": PublishedSet(
        {"train": (_file(FASHION, "train-images-idx3-ubyte.gz",
                         "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
                         "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"),
                   _file(FASHION, "train-labels-idx1-ubyte.gz",
                         "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
                         "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056")),
         "test": (_file(FASHION, "t10k-images-idx3-ubyte.gz",
                        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
                        "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa"),
                  _file(FASHION, "t10k-labels-idx1-ubyte.gz",
                        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
                        "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05"))},
        lambda paths, split: read_idx_pair(*paths), GARMENTS, "fashion_mnist"),
    "cifar10": PublishedSet(
        {"train": (CIFAR10_ARCHIVE,), "test": (CIFAR10_ARCHIVE,)},
        lambda paths, split: read_cifar10(paths[0], split),
        ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"), "emoji"),
    "svhn": PublishedSet(
        {"train": (_file(SVHN, "train_32x32.mat",
                         "435e94d69a87fde4fd4d7f3dd208dfc32cb6ae8af2240d066de1df7508d083b8"),),
         "test": (_file(SVHN, "test_32x32.mat",
                        "cdce80dfb2a2c4c6160906d0bd7c68ec5a99d7ca4831afa54f09182025b6a75b"),)},
        lambda paths, split: read_svhn(paths[0]), DIGITS, "emoji"),
}


def arrays(name: str, split: str, root: str | Path | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Images `(n, c, h, w)` uint8 and labels `(n,)` of a full set, fetched unless `root` is given.

    Raises `DataUnavailable` without file and network, `DataCorrupt` for a file in `root` that is not the
    published one.
    """
    check_split(split)
    known = PUBLISHED[name]
    if root is None:
        paths = [fetch(file, cache_folder(name), instead=known.instead) for file in known.files[split]]
    else:
        paths = [require(file, Path(root).expanduser(), instead=known.instead) for file in known.files[split]]
    return known.read(paths, split)
