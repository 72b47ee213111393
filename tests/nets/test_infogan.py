"""The nets of thesis Table 3.6."""

import pytest
import torch
from torch import nn

from gmcourse.nets.infogan import InfoDecoder, InfoEncoder


@pytest.mark.parametrize("image", [(1, 28, 28), (3, 32, 32)])
def test_at_the_size_of_the_thesis_the_layers_are_those_of_its_table(image):
    c, size = image[0], image[1] // 4
    encoder, decoder = InfoEncoder(image, 20, width=64, hidden=1024), InfoDecoder(20, image, width=64, hidden=1024)
    down = [p.shape for p in encoder.parameters() if p.ndim > 1]
    up = [p.shape for p in decoder.parameters() if p.ndim > 1]
    assert down == [(64, c, 4, 4), (128, 64, 4, 4), (1024, 128 * size * size), (20, 1024)]
    assert up == [(1024, 20), (128 * size * size, 1024), (128, 64, 4, 4), (64, c, 4, 4)]
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert [sum(isinstance(m, norms) for m in net.modules()) for net in (encoder, decoder)] == [2, 3]


def test_an_image_goes_to_a_vector_and_back_to_an_image_in_range():
    x = torch.randn(5, 1, 28, 28)
    z = InfoEncoder((1, 28, 28), 7)(x)
    found = InfoDecoder(7, (1, 28, 28))(100 * z)
    assert z.shape == (5, 7) and found.shape == x.shape and found.abs().max() <= 1


def test_sides_that_are_not_divisible_by_four_are_refused():
    with pytest.raises(ValueError, match="divisible by 4"):
        InfoEncoder((1, 30, 30), 4)
