"""The readers give back what was written in the true binary formats, and name what is wrong otherwise.

The full sets can't be fetched here: `load_images` reads tiny ones, written in their formats.
"""

import dataclasses
import gzip
import hashlib
import io
import struct
import tarfile

import numpy as np
import pytest
import scipy.io
import torch

from gmcourse.data import published
from gmcourse.data.errors import DataCorrupt, DataUnavailable
from gmcourse.data.formats import read_cifar10, read_idx, read_idx_pair, read_svhn, scale
from gmcourse.data.images import OFFLINE, class_names, load_images

BATCHES = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]


def pixels(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def by_reason(value):
    """Ids of the cases of broken files: the reason, not the bytes, which hold the time of day where they are packed."""
    return value if isinstance(value, str) else "file"


def idx_bytes(array):
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def tar_bytes(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def cifar_batch(images, labels):
    """As the page of CIFAR-10 states it: <1 x label><3072 x pixel>, planes red, green, blue, row by row."""
    return b"".join(bytes([label]) + b"".join(bytes(image[c, row]) for c in range(3) for row in range(32))
                    for image, label in zip(images, labels, strict=True))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize("shape", [(7,), (5, 4, 3), (0, 28, 28)])
def test_idx_gives_back_what_was_written(tmp_path, pack, shape):
    array = pixels(*shape)
    (tmp_path / "a").write_bytes(pack(idx_bytes(array)))
    result = read_idx(tmp_path / "a")
    assert result.dtype == np.uint8 and result.shape == shape and np.array_equal(result, array)


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "begins with nothing"),
    (b"<html>404</html>", "begins with 3c 68 74 6d"),
    (b"\0\0\x0d\x01\0\0\0\0", "not an IDX file of unsigned bytes"),
    (b"\0\0\x08\x03\0\0\0", "within the IDX header, after 7 of 16 bytes"),
    (idx_bytes(pixels(4, 3))[:-1], r"11 bytes of data, but the IDX header says \(4, 3\)"),
    (idx_bytes(pixels(4, 3)) + b"x", "13 bytes of data"),
    (b"\0\0\x08\x03" + b"\xff" * 12, "0 bytes of data"),
    (gzip.compress(idx_bytes(pixels(40, 3)))[:-12], "broken gzip stream"),
    (gzip.compress(idx_bytes(pixels(40, 3)))[:20] + b"junk", "broken gzip stream"),
], ids=by_reason)
def test_malformed_idx_is_named(tmp_path, content, reason):
    (tmp_path / "bad-idx").write_bytes(content)
    with pytest.raises(DataCorrupt, match=f"bad-idx: .*{reason}"):
        read_idx(tmp_path / "bad-idx")


def test_idx_images_and_labels_must_belong_together(tmp_path):
    images, labels = tmp_path / "images", tmp_path / "labels"
    images.write_bytes(idx_bytes(pixels(5, 2, 3)))
    labels.write_bytes(idx_bytes(np.arange(5, dtype=np.uint8)))
    x, y = read_idx_pair(images, labels)
    assert x.shape == (5, 1, 2, 3) and y.tolist() == [0, 1, 2, 3, 4] and y.dtype == np.int64
    labels.write_bytes(idx_bytes(np.arange(4, dtype=np.uint8)))
    with pytest.raises(DataCorrupt, match="does not go with labels"):
        read_idx_pair(images, labels)
    with pytest.raises(DataCorrupt, match="does not go with images"):
        read_idx_pair(images, images)


def test_cifar10_gives_back_pixels_and_labels_in_the_order_of_the_batches(tmp_path):
    images, labels = pixels(12, 3, 32, 32), np.arange(12) % 10
    batches = {name: cifar_batch(images[2 * i:2 * i + 2], labels[2 * i:2 * i + 2])
               for i, name in enumerate(BATCHES)}
    backwards = dict(reversed(batches.items()))  # the order within the archive must not matter
    (tmp_path / "c.tar.gz").write_bytes(tar_bytes(backwards | {"readme.html": b"<html>"}))
    x, y = read_cifar10(tmp_path / "c.tar.gz", "train")
    assert np.array_equal(x, images[:10]) and np.array_equal(y, labels[:10])
    x, y = read_cifar10(tmp_path / "c.tar.gz", "test")
    assert np.array_equal(x, images[10:]) and np.array_equal(y, labels[10:])


@pytest.mark.parametrize(("content", "reason"), [
    (b"no archive", "broken tar archive"),
    (tar_bytes({"test_batch.bin": b"1" * 9000})[:-60], "broken tar archive"),
    (tar_bytes({"test_batch": b"pickled"}), "no test_batch.bin in it; is it the binary version"),
    (tar_bytes({"test_batch.bin": b"1" * 3072}), "test_batch.bin has 3072 bytes, not a multiple of 3073"),
    (tar_bytes({"test_batch.bin": b""}), "test_batch.bin has 0 bytes"),
    (tar_bytes({"test_batch.bin": b"\x0b" * 3073}), r"labels must lie in 0\.\.\.9; got 11"),
], ids=by_reason)
def test_malformed_cifar10_is_named(tmp_path, content, reason):
    (tmp_path / "bad.tar.gz").write_bytes(content)
    with pytest.raises(DataCorrupt, match=rf"bad\.tar\.gz: .*{reason}"):
        read_cifar10(tmp_path / "bad.tar.gz", "test")


def test_svhn_puts_the_image_axis_first_and_reads_label_10_as_digit_0(tmp_path):
    x = pixels(32, 32, 3, 6)
    scipy.io.savemat(tmp_path / "s.mat", {"X": x, "y": np.array([[1], [9], [10], [5], [10], [2]], np.uint8)})
    images, labels = read_svhn(tmp_path / "s.mat")
    assert images.shape == (6, 3, 32, 32) and images.dtype == np.uint8
    assert labels.tolist() == [1, 9, 0, 5, 0, 2]
    assert images[4, 2, 7, 30] == x[7, 30, 2, 4]  # X is (row, column, channel, image)


@pytest.mark.parametrize(("content", "reason"), [
    ({"X": pixels(32, 32, 3, 2)}, "no variable y"),
    ({"X": pixels(2, 3, 32, 32), "y": [[1], [2]]}, r"X must be uint8 of shape \(32, .*; got uint8 \(2,"),
    ({"X": pixels(32, 32, 3, 2) / 255, "y": [[1], [2]]}, "got float64"),
    ({"X": pixels(32, 32, 3, 2), "y": [[1], [2], [3]]}, "2 images but 3 labels"),
    ({"X": pixels(32, 32, 3, 2), "y": [[0], [2]]}, r"labels must lie in 1\.\.\.10; got 0\.\.\.2"),
], ids=by_reason)
def test_malformed_svhn_is_named(tmp_path, content, reason):
    scipy.io.savemat(tmp_path / "bad.mat", content)
    with pytest.raises(DataCorrupt, match=rf"bad\.mat: .*{reason}"):
        read_svhn(tmp_path / "bad.mat")


def test_a_broken_or_missing_mat_file_is_named(tmp_path):
    scipy.io.savemat(tmp_path / "cut.mat", {"X": pixels(32, 32, 3, 9), "y": np.ones((9, 1))})
    whole = (tmp_path / "cut.mat").read_bytes()
    for content in [b"", b"<html>" * 100, whole[:200], whole[:5000]]:
        (tmp_path / "cut.mat").write_bytes(content)
        with pytest.raises(DataCorrupt, match=r"cut\.mat: not a MATLAB v5 file"):
            read_svhn(tmp_path / "cut.mat")
    with pytest.raises(FileNotFoundError):
        read_svhn(tmp_path / "none.mat")
    with pytest.raises(FileNotFoundError):
        read_cifar10(tmp_path / "none.tar.gz", "train")


@pytest.mark.parametrize("top", [255, 16])
def test_scale_is_the_line_through_the_two_ends_and_can_be_undone(top):
    values = np.arange(top + 1, dtype=np.uint8)
    scaled = scale(values, top)
    assert scaled.dtype == torch.float32 and scaled[0] == -1 and scaled[-1] == 1
    assert torch.allclose(scaled, torch.linspace(-1, 1, top + 1), atol=1e-6)
    assert np.array_equal(((scaled + 1) * top / 2).round().byte().numpy(), values)
    assert values[-1] == top, "the array itself stays as it was"


def tiny_files(name, labels):
    """Files of a full set in their true formats, train and test, and the images in them."""
    n = len(labels)
    images = {"train": pixels(n, 3, 32, 32, seed=1), "test": pixels(n, 3, 32, 32, seed=2)}
    if name == "cifar10":
        parts = np.array_split(np.arange(n), 5)
        batches = {f"data_batch_{i + 1}.bin": cifar_batch(images["train"][rows], labels[rows])
                   for i, rows in enumerate(parts)}
        archive = tar_bytes(batches | {"test_batch.bin": cifar_batch(images["test"], labels)})
        return {"cifar-10-binary.tar.gz": archive}, images
    if name == "svhn":
        y = np.where(labels == 0, 10, labels)[:, None]
        files = {f"{split}_32x32.mat": {"X": x.transpose(2, 3, 1, 0), "y": y} for split, x in images.items()}
        return files, images
    images = {split: x[:, :1, :28, :28] for split, x in images.items()}
    prefix = {"train": "train", "test": "t10k"}
    files = {f"{prefix[split]}-{kind}-ubyte.gz": gzip.compress(idx_bytes(content))
             for split, x in images.items()
             for kind, content in {"images-idx3": x[:, 0], "labels-idx1": labels}.items()}
    return files, images


@pytest.fixture(params=published.PUBLISHED)
def tiny(request, tmp_path, monkeypatch):
    """A full set whose files are tiny: name, folder, images by split, labels."""
    labels = np.array([0, 9, 3, 1, 0, 7, 5, 2, 2, 8])
    files, images = tiny_files(request.param, labels)
    known, digests = published.PUBLISHED[request.param], {}
    for file, content in files.items():
        path = tmp_path / file
        scipy.io.savemat(path, content) if isinstance(content, dict) else path.write_bytes(content)
        digests[file] = hashlib.sha256(path.read_bytes()).hexdigest()
    replaced = {split: tuple(dataclasses.replace(file, sha256=(digests[file.name],)) for file in given)
                for split, given in known.files.items()}
    monkeypatch.setitem(published.PUBLISHED, request.param, dataclasses.replace(known, files=replaced))
    return request.param, tmp_path, images, labels


def test_full_sets_are_read_from_a_folder_in_their_true_formats(tiny):
    name, folder, pictures, labels = tiny
    for split in ("train", "test"):
        images, got = load_images(name, split, root=folder)
        assert np.array_equal(((images + 1) * 127.5).round().numpy(), pictures[split])
        assert got.tolist() == labels.tolist() and got.dtype == torch.long
    assert len(load_images(name, root=folder, limit=3)[0]) == 3
    assert len(class_names(name)) == 10


def test_full_sets_are_read_from_the_cache(tiny, monkeypatch):
    name, folder, pictures, _ = tiny
    monkeypatch.setenv("GMCOURSE_DATA", str(folder / "cache"))
    (folder / "cache" / name).mkdir(parents=True)
    for file in (file for file in folder.iterdir() if file.is_file()):
        file.rename(folder / "cache" / name / file.name)
    assert len(load_images(name)[0]) == len(pictures["train"])


def test_a_damaged_file_in_a_folder_of_ones_own_is_named(tiny):
    name, folder, _, _ = tiny
    path = folder / published.PUBLISHED[name].files["test"][0].name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataCorrupt, match=f"{path.name}: SHA-256"):
        load_images(name, "test", root=folder)
    path.unlink()
    with pytest.raises(DataUnavailable, match=rf"no {path.name} in {folder}.*load_images\('\w+'\)"):
        load_images(name, "test", root=folder)


def test_every_full_set_names_an_offline_set_and_whole_digests():
    for known in published.PUBLISHED.values():
        assert known.instead in OFFLINE
        for file in (file for split in ("train", "test") for file in known.files[split]):
            assert file.addresses and all(len(digest) == 64 and int(digest, 16) for digest in file.sha256)
