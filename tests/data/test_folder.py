"""Folders of images: what is found, where it is cropped, on which side of the split it falls."""

import numpy as np
import pytest
import torch
from PIL import Image

from gmcourse.data.errors import DataCorrupt, DataUnavailable
from gmcourse.data.folder import folder_classes, load_celeba, load_folder, load_lsun
from gmcourse.data.images import class_names, load_images

RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(path, colour=RED, size=(40, 40), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path, **options)
    return path


def constant(*colour):
    return torch.tensor(colour).view(3, 1, 1) / 127.5 - 1


@pytest.fixture
def many(tmp_path):
    """200 grey pictures, each of its own value, so that a picture can be told by its pixels."""
    for value in range(200):
        picture(tmp_path / f"{value:03d}.png", value, (4, 4), "L")
    return tmp_path


def values(images):
    return ((images[:, 0, 0, 0] + 1) * 127.5).round().long().tolist()


def test_splits_share_nothing_and_together_are_the_folder(many):
    train, test = (values(load_folder(many, split, size=4, channels=1)[0]) for split in ("train", "test"))
    assert sorted(train + test) == list(range(200))
    assert 8 <= len(test) <= 35  # 20 expected, standard deviation 4
    assert train != sorted(train), "the order is mixed, so that the first k are a fair sample"


def test_a_picture_keeps_its_side_when_others_leave(many):
    before = set(values(load_folder(many, "test", size=4, channels=1)[0]))
    for value in range(0, 200, 2):
        (many / f"{value:03d}.png").unlink()
    assert set(values(load_folder(many, "test", size=4, channels=1)[0])) == {v for v in before if v % 2}


def test_limit_decodes_the_first_ones_only(many):
    everything, _ = load_folder(many, size=4, channels=1)
    for path in many.iterdir():
        if Image.open(path).getpixel((0, 0)) not in values(everything[:5]):
            path.write_bytes(b"never opened")
    images, labels = load_images("folder", root=many, limit=5)
    assert images.shape == (5, 3, 32, 32) and values(images) == values(everything[:5]) and len(labels) == 5


def test_given_train_and_test_folders_are_followed_and_subfolders_are_classes(tmp_path):
    for i in range(3):
        picture(tmp_path / "train" / "cat" / f"{i}.png", RED)
        picture(tmp_path / "train" / "dog" / "deep" / f"{i}.JPG", BLUE)
    picture(tmp_path / "test" / "dog" / "x.bmp", BLUE)
    picture(tmp_path / "test" / "eel" / "x.webp", (0, 255, 0), lossless=True)
    assert folder_classes(tmp_path) == class_names("folder", root=tmp_path) == ("cat", "dog", "eel")
    images, labels = load_images("folder", "train", root=tmp_path)
    assert sorted(labels.tolist()) == [0, 0, 0, 1, 1, 1] and labels.dtype == torch.long
    assert torch.allclose(images[labels == 0], constant(*RED)) and images.dtype == torch.float32
    images, labels = load_images("folder", "test", root=str(tmp_path))
    assert sorted(labels.tolist()) == [1, 2]
    assert torch.allclose(images[labels == 2], constant(0, 255, 0))


def test_the_central_square_is_taken(tmp_path):
    wide = Image.new("RGB", (90, 30), BLUE)
    wide.paste(RED, (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    wide.rotate(90, expand=True).save(tmp_path / "tall.png")
    images = torch.cat([load_folder(picture_folder(tmp_path, name), size=8)[0] for name in ("wide", "tall")])
    inner = images[..., 1:-1, 1:-1]  # pixels at the edge see a little of their neighbours outside the square
    assert torch.allclose(inner, constant(*RED).expand(2, 3, 6, 6))
    assert torch.allclose(images, constant(*RED).expand(2, 3, 8, 8), atol=0.2)


def picture_folder(tmp_path, name):
    """A folder whose training split is the one picture `name`."""
    target = tmp_path / f"only-{name}" / "train" / f"{name}.png"
    target.parent.mkdir(parents=True)
    (tmp_path / f"{name}.png").rename(target)
    return target.parents[1]


def test_transparency_is_put_on_white_orientation_is_followed_and_grey_is_grey(tmp_path):
    picture(tmp_path / "a" / "train" / "x.png", (0, 0, 0, 0), mode="RGBA")
    assert torch.equal(load_folder(tmp_path / "a", size=4)[0], torch.ones(1, 3, 4, 4))
    picture(tmp_path / "b" / "train" / "x.png", 51, mode="L")
    assert torch.allclose(load_folder(tmp_path / "b", size=4)[0], constant(51, 51, 51))
    upper = Image.new("RGB", (16, 16), BLUE)
    upper.paste(RED, (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    (tmp_path / "c" / "train").mkdir(parents=True)
    upper.save(tmp_path / "c" / "train" / "x.png", exif=exif)
    image = load_folder(tmp_path / "c", size=16)[0][0]
    assert torch.allclose(image[:, 12], constant(*RED)[:, 0])
    assert torch.allclose(image[:, 3], constant(*BLUE)[:, 0])


def test_hidden_files_and_other_files_are_left_out(tmp_path):
    for name in ("._x.png", ".thumbnails/x.png", "notes.txt", "x.png"):
        (tmp_path / "train" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / name).write_bytes(b"no image")
    picture(tmp_path / "train" / "x.png")
    assert len(load_folder(tmp_path)[0]) == 1 and folder_classes(tmp_path) == ("",)


@pytest.mark.parametrize("name", ["folder", "celeba", "lsun"])
def test_bad_folders_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=f"root must be the folder .* images of '{name}'; got None"):
        load_images(name)
    with pytest.raises(DataUnavailable, match=r"there is no folder .*nowhere.*load_images\('emoji'\)"):
        load_images(name, root=tmp_path / "nowhere")
    (tmp_path / "readme.txt").write_text("no image")
    with pytest.raises(ValueError, match=r"root must hold images \(.*\.png.*\); .* has none"):
        load_images(name, root=tmp_path)


def test_broken_images_empty_splits_and_bad_sizes_are_refused(tmp_path):
    whole = picture(tmp_path / "train" / "x.jpg", size=(200, 200))
    with pytest.raises(ValueError, match="split 'test' of .* is empty"):
        load_folder(tmp_path, "test")
    with pytest.raises(ValueError, match="split must be one of train, test; got 'val'"):
        load_folder(tmp_path, "val")
    with pytest.raises(ValueError, match="channels must be 1 or 3; got 4"):
        load_folder(tmp_path, channels=4)
    with pytest.raises(ValueError, match="size must be at least 1; got 0"):
        load_folder(tmp_path, size=0)
    for content in (b"", b"no image", whole.read_bytes()[:700]):
        whole.write_bytes(content)
        with pytest.raises(DataCorrupt, match=r"x\.jpg: not an image that Pillow can read"):
            load_folder(tmp_path)


def test_celeba_is_cropped_to_the_face_and_split_by_its_numbers(tmp_path):
    face = Image.new("RGB", (178, 218), BLUE)
    face.paste(RED, (15, 40, 163, 188))  # the published 148 x 148 window
    (tmp_path / "img_align_celeba").mkdir()
    for number in (1, 162770, 162771, 182637, 182638, 202599):
        face.save(tmp_path / "img_align_celeba" / f"{number:06d}.png")
    for split in ("train", "test"):
        images, labels = load_images("celeba", split, root=tmp_path)
        assert images.shape == (2, 3, 64, 64) and labels.tolist() == [0, 0]  # validation belongs to neither
        assert torch.allclose(images, constant(*RED).expand(2, 3, 64, 64))
    assert len(load_celeba(tmp_path / "img_align_celeba", size=32, limit=1)[0]) == 1


def test_celeba_refuses_what_is_not_celeba(tmp_path):
    picture(tmp_path / "me.jpg")
    with pytest.raises(ValueError, match=r"CelebA's pictures 000001\.jpg to 162770\.jpg for split 'train'"):
        load_celeba(tmp_path)
    picture(tmp_path / "000007.jpg", size=(64, 64))
    with pytest.raises(DataCorrupt, match=r"000007\.jpg: must have 178 x 218 pixels.*; got \(64, 64\)"):
        load_celeba(tmp_path)


def test_lsun_is_read_at_any_depth_without_classes_and_its_lmdb_is_refused(tmp_path):
    for i in range(40):
        picture(tmp_path / f"{i % 3}" / "a" / f"{i}.webp", size=(30, 20))
    images, labels = load_images("lsun", root=tmp_path)
    assert images.shape[1:] == (3, 64, 64) and not labels.any()
    assert len(images) + len(load_lsun(tmp_path, "test")[0]) == 40
    (tmp_path / "church_outdoor_train_lmdb").mkdir()
    (tmp_path / "church_outdoor_train_lmdb" / "data.mdb").write_bytes(b"")
    with pytest.raises(ValueError, match=r"lmdb archive \(data\.mdb\): export its images first"):
        load_images("lsun", root=tmp_path)


def test_resizing_keeps_the_mean_of_a_smooth_picture(tmp_path):
    ramp = np.linspace(0, 255, 256).round().astype(np.uint8)
    (tmp_path / "train").mkdir()
    Image.fromarray(np.broadcast_to(ramp, (256, 256)).copy()).save(tmp_path / "train" / "ramp.png")
    image = load_folder(tmp_path, size=16, channels=1)[0][0, 0]
    expected = torch.from_numpy(ramp.reshape(16, 16).mean(axis=1)).float() / 127.5 - 1
    assert torch.allclose(image[:, 1:-1], expected[1:-1].expand(16, 14), atol=0.02)
