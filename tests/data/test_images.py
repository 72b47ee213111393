"""`load_images` offline: shapes, ranges, honest splits, true labels, and what it says when it can't."""

import time

import numpy as np
import pytest
import scipy.stats
import torch
from sklearn.datasets import load_digits

from gmcourse.data import shipped
from gmcourse.data.errors import DataCorrupt, DataUnavailable
from gmcourse.data.images import NAMES, OFFLINE, SHAPES, class_names, emoji_names, load_images, stacked_mnist

SIZES = {"digits": (1437, 360), "mnist": (4000, 1000), "fashion_mnist": (10000, 2000), "emoji": (1721, 190),
         "stacked_mnist": (10000, 2000)}


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", OFFLINE)
def test_offline_sets_have_the_shape_range_and_types_of_the_contract(name, split):
    images, labels = load_images(name, split)
    n = SIZES[name][split == "test"]
    assert images.shape == (n, *SHAPES[name]) and images.dtype == torch.float32
    assert labels.shape == (n,) and labels.dtype == torch.long
    assert images.min() == -1 and images.max() == 1
    assert 0 <= labels.min() and labels.max() < len(class_names(name))
    again, _ = load_images(name, split)
    assert torch.equal(images, again), "the same in every call"


@pytest.mark.parametrize("name", OFFLINE)
def test_offline_sets_load_in_under_300_ms(name):
    def seconds():
        start = time.process_time()
        load_images(name)
        return time.process_time() - start

    assert min(seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize("name", [name for name in OFFLINE if name != "stacked_mnist"])
def test_no_test_picture_was_seen_in_training_and_classes_keep_their_share(name):
    (train, train_labels), (test, test_labels) = load_images(name), load_images(name, "test")
    seen = {picture.numpy().tobytes() for picture in train}
    assert not any(picture.numpy().tobytes() in seen for picture in test)
    count = len(class_names(name))
    shares = [torch.bincount(labels, minlength=count) / len(labels) for labels in (train_labels, test_labels)]
    assert torch.allclose(*shares, atol=0.01)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_first_images_are_a_fair_sample(name):
    labels = load_images(name, limit=500)[1]
    counts = torch.bincount(labels, minlength=10)
    assert len(labels) == 500 and scipy.stats.chisquare(counts).pvalue > 1e-3


def test_digits_are_those_of_scikit_learn():
    reference = load_digits()
    both = [load_images("digits", split) for split in ("train", "test")]
    images, labels = torch.cat([both[0][0], both[1][0]]), torch.cat([both[0][1], both[1][1]])
    ours = sorted(zip(((images + 1) * 8).flatten(1).tolist(), labels.tolist(), strict=True))
    assert ours == sorted(zip(reference.data.tolist(), reference.target.tolist(), strict=True))


def test_emoji_have_names_and_unrelated_test_pictures():
    assert len(set(emoji_names("train") + emoji_names("test"))) == 1911
    images, labels = load_images("emoji")
    for name, category in {"pizza": "Food & Drink", "dog": "Animals & Nature", "fr": "Flags"}.items():
        assert class_names("emoji")[labels[emoji_names().index(name)]] == category
    red = images[emoji_names().index("apple")]
    middle = red[:, 14:22, 12:20].mean(dim=(1, 2))
    assert middle[0] > 0.5 > 0 > middle[1] > -1, "a red apple: channels are red, green, blue"
    assert (red[:, 0, 0] == 1).all(), "on white"
    test = load_images("emoji", "test")[0]
    nearest = torch.cdist(test.flatten(1).double(), images.flatten(1).double()).min(dim=1).values
    assert (nearest * 127.5 / np.sqrt(3 * 32 * 32)).min() >= 10  # grey levels, root mean square


def test_each_plane_of_stacked_mnist_is_a_digit_with_the_label_that_it_claims():
    images, labels = stacked_mnist(300, seed=3, split="test")
    digits, classes = load_images("mnist", "test")
    known = {digit.numpy().tobytes(): str(int(label)) for digit, label in zip(digits, classes, strict=True)}
    names = class_names("stacked_mnist")
    for image, label in zip(images, labels, strict=True):
        assert "".join(known[plane.numpy().tobytes()] for plane in image) == names[label]


def test_stacked_mnist_covers_its_thousand_modes_evenly():
    labels = stacked_mnist(20_000, seed=1)[1]
    counts = torch.bincount(labels, minlength=1000)
    assert len(counts) == 1000 and scipy.stats.chisquare(counts).pvalue > 1e-3
    assert torch.equal(stacked_mnist(50, seed=1)[0], stacked_mnist(50, seed=1)[0])
    assert not torch.equal(stacked_mnist(50, seed=1)[1], stacked_mnist(50, seed=2)[1])
    with pytest.raises(ValueError, match="n must be at least 1; got 0"):
        stacked_mnist(0)


def test_a_damaged_shipped_file_is_named_and_a_missing_one_says_where_it_belongs(tmp_path, monkeypatch):
    content = bytearray(shipped.path("digits").read_bytes())
    content[5000] ^= 1
    (tmp_path / "digits.npz").write_bytes(content)
    with pytest.raises(DataCorrupt, match=r"digits\.npz: damaged or of another version; its SHA-256 is"):
        load_images("digits", root=tmp_path)
    with pytest.raises(DataUnavailable, match=rf"no mnist\.npz in {tmp_path}\. .*GMCOURSE_DATA"):
        load_images("mnist", root=tmp_path)
    monkeypatch.setenv("GMCOURSE_DATA", str(tmp_path))
    with pytest.raises(DataCorrupt, match=str(tmp_path / "digits.npz")):
        load_images("digits")
    assert len(load_images("mnist", limit=2)[0]) == 2, "what this folder lacks comes from the repository"


def test_bad_requests_are_refused(tmp_path):
    known = ", ".join(NAMES)
    for call in (load_images, class_names):
        with pytest.raises(ValueError, match=f"name must be one of {known}; got 'imagenet'"):
            call("imagenet")
    for name in NAMES:
        with pytest.raises(ValueError, match="split must be one of train, test; got 'valid'"):
            load_images(name, "valid", root=tmp_path)
    with pytest.raises(ValueError, match="limit must be at least 1; got 0"):
        load_images("mnist", limit=0)
    with pytest.raises(ValueError, match="root must be None for stacked_mnist, made from mnist"):
        load_images("stacked_mnist", root=tmp_path)
    with pytest.raises(ValueError, match="root must be the folder .* images of 'folder'; got None"):
        class_names("folder")
    assert class_names("celeba") == ("face",)
