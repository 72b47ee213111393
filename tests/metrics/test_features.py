"""Features: the net's, the classifier's or the data themselves, and nothing about the net is changed."""

import pytest
import torch
from torch import nn

from gmcourse.classifier import mlp_classifier
from gmcourse.metrics.features import feature_pair, features, logits

X = torch.randn(7, 2, generator=torch.Generator().manual_seed(0))


def test_without_a_net_the_data_are_flattened():
    images = torch.randn(3, 2, 4, 5)
    assert torch.equal(features(images), images.reshape(3, 40))
    assert features(torch.randn(6)).shape == (6, 1)
    assert not features(torch.ones(6, 2, requires_grad=True)).requires_grad


def test_a_classifier_gives_its_features_and_its_logits():
    torch.manual_seed(0)
    net = mlp_classifier((2,), classes=3, hidden=(8, 5)).eval()
    assert torch.equal(features(X, net), net.features(X)) and features(X, net).shape == (7, 5)
    assert torch.equal(logits(X, net), net(X))


def test_batches_change_memory_not_the_features():
    assert torch.equal(features(X, torch.sin, batch=2), X.sin())


def test_the_net_is_evaluated_without_noise_or_gradients_and_left_as_it_was():
    net = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.BatchNorm1d(3))
    net[2].eval()
    found = features(X, net, batch=1)
    assert torch.equal(found, features(X, net)) and not found.requires_grad
    assert [part.training for part in net] == [True, True, False] and net.training


def test_a_pair_gets_one_dtype():
    first, second = feature_pair(X.double(), X)
    assert first.dtype == second.dtype == torch.float64
    assert features(X.to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: features(torch.zeros(())), r"x must have shape \(n, \.\.\.\) with n at least 1; got \(\)"),
        (lambda: features(torch.zeros(0, 2)), r"n at least 1; got \(0, 2\)"),
        (lambda: features(torch.zeros(3, 2, dtype=torch.uint8)), r"x must be floating-point, .* got torch.uint8"),
        (lambda: features(X, lambda x: x.sum(1)), r"the features of x must be floating-point, shape \(7, d\)"),
        (lambda: features(X, lambda x: x / (x[:, :1] - X[2, 0])), "features of x must be finite; 1 of 7 .* is row 2"),
        (lambda: feature_pair(X, X[:, :1]), r"real and fake must have the same event shape; got \(7, 2\) and \(7, 1\)"),
        (lambda: feature_pair(X, X * float("nan")), "fake must be finite; 7 of 7 rows"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
