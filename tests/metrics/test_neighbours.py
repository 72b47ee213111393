"""Nearest neighbours against scikit-learn; a copy is found at distance 0."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from gmcourse.metrics.neighbours import nearest_neighbours


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_neighbours_are_scikit_learns():
    x, data = normal(300, 5, seed=0).double(), normal(1000, 5, seed=1).double()
    distances, indices = NearestNeighbors(n_neighbors=4).fit(data.numpy()).kneighbors(x.numpy())
    found = nearest_neighbours(x, data, k=4)
    assert torch.equal(found.indices, torch.from_numpy(indices))
    assert torch.allclose(found.distances, torch.from_numpy(distances))


def test_a_copied_image_is_found_at_distance_exactly_zero():
    data = 10 + normal(200, 1, 16, 16, seed=2)  # far from 0: by squares and products the zero would drown
    found = nearest_neighbours(data[[17, 3]], data, k=2)
    assert found.indices[:, 0].tolist() == [17, 3]
    assert found.distances[:, 0].tolist() == [0, 0] and (found.distances[:, 1] > 1).all()
    assert data[found.indices].shape == (2, 2, 1, 16, 16)


def test_neighbours_in_feature_space_ignore_what_the_net_ignores():
    data = torch.tensor([[0.0, 50.0], [1.0, 0.0]])
    x = torch.tensor([[0.1, 0.0]])
    assert nearest_neighbours(x, data, k=1).indices.tolist() == [[1]]
    assert nearest_neighbours(x, data, k=1, net=lambda x: x[:, :1]).indices.tolist() == [[0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: nearest_neighbours(x, x, k=4), "k must be at most the number of data, 3; got 4"),
        (lambda x: nearest_neighbours(x, x, k=0), "k must be a positive whole number"),
        (lambda x: nearest_neighbours(x, x[:, :1], k=1), r"x and data must have the same event shape; got \(3, 2\)"),
        (lambda x: nearest_neighbours(x, x / 0, k=1), "data must be finite"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(3, 2))
