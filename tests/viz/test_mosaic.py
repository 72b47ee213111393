"""Sample grids: every pixel lands where and as bright as it should."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from gmcourse.viz import mosaic_array, png


def test_images_lie_row_by_row_with_white_between():
    images = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 1, 2, 3)
    page = mosaic_array(images, columns=3)
    assert page.shape == (5, 11) and page.dtype == np.uint8
    for k, grey in enumerate((0, 64, 128, 191, 255)):
        row, column = divmod(k, 3)
        block = page[row * 3 : row * 3 + 2, column * 4 : column * 4 + 3]
        assert np.abs(block.astype(int) - grey).max() <= 1
    assert (page[2] == 255).all() and (page[:, 3] == 255).all()  # the lines between
    assert (page[3:, 8:] == 255).all()  # the empty place


def test_colours_keep_their_channels_and_overshoot_is_clipped():
    red = torch.tensor([3.0, -1.0, -5.0]).reshape(1, 3, 1, 1).expand(1, 3, 4, 4)
    assert (mosaic_array(red) == [255, 0, 0]).all()


def test_scale_repeats_pixels():
    images = torch.rand(4, 1, 3, 3) * 2 - 1
    page, large = mosaic_array(images), mosaic_array(images, scale=3)
    assert large.shape == (21, 21)
    assert (large[1::3, 1::3] == page).all() and (large == np.kron(page, np.ones((3, 3), np.uint8))).all()


@pytest.mark.parametrize("shape", [(7, 11), (7, 11, 3)])
def test_png_is_lossless(shape):
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(png(array)))) == array).all()
    assert Image.open(io.BytesIO(png(array, scale=2))).size == (22, 14)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mosaic_array(torch.zeros(4, 8, 8)), r"shape \(n, 1 or 3, h, w\); got \(4, 8, 8\)"),
        (lambda: mosaic_array(torch.zeros(4, 2, 8, 8)), r"got \(4, 2, 8, 8\)"),
        (lambda: mosaic_array(torch.zeros(0, 1, 8, 8)), "at least one image"),
        (lambda: mosaic_array(torch.full((1, 1, 2, 2), torch.nan)), "got 4 NaN"),
        (lambda: mosaic_array(torch.zeros(1, 1, 2, 2), scale=0), "scale must be at least 1; got 0"),
        (lambda: mosaic_array(torch.zeros(1, 1, 2, 2), columns=0), "columns must be at least 1; got 0"),
        (lambda: png(np.zeros((2, 2))), "array must be uint8"),
        (lambda: png(np.zeros((2, 2, 4), np.uint8)), r"\(2, 2, 4\)"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
