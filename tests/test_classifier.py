"""Classifiers: p(y | x) and nothing else."""

import pytest
import torch
from scipy.special import log_softmax
from torch import nn

from gmcourse import fit
from gmcourse.classifier import Classifier, conv_classifier, mlp_classifier
from gmcourse.data.mixtures import GaussianMixture


def test_loss_is_the_negative_log_probability_of_the_label():
    net = mlp_classifier((2,), 3).double()
    x, y = torch.randn(7, 2, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 0])
    want = -log_softmax(net(x).detach().numpy(), axis=1)[range(7), y]
    assert torch.allclose(net.loss((x, y)).detach(), torch.from_numpy(want), rtol=1e-12)


def test_a_fitted_classifier_is_bayes_rule():
    """Two Gaussians, prior 1/4 and 3/4: the log-odds are linear in x, with the prior's log-odds as part of the offset."""
    torch.manual_seed(0)
    data = GaussianMixture([1.0, 3.0], [[-1.0, 0.0], [1.0, 0.0]], 1.0)
    y = (torch.rand(20_000) < 0.75).long()
    x = data.modes[y] + torch.randn(20_000, 2)
    net = Classifier((2,), nn.Identity(), 2, 2)
    fit(net, (x, y), steps=1500, batch_size=1000, lr=2e-2, progress=False)
    found = net(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])).detach()
    odds = found[:, 1] - found[:, 0]
    want = torch.tensor([3.0, 3.0 * torch.e**2, 3.0]).log()  # log 3 + 2 x₁
    assert torch.allclose(odds, want, atol=0.12)


def test_features_feed_the_head_and_accuracy_is_measured_without_dropout():
    torch.manual_seed(0)
    net = conv_classifier((1, 8, 8), 5, channels=4, width=6, dropout=0.5)
    x, y = torch.randn(12, 1, 8, 8), torch.arange(12) % 5
    net.train()
    assert net.features(x).shape == (12, 6)
    found = {net.accuracy(x, y, batch=5) for _ in range(5)}
    assert len(found) == 1 and net.training
    net.eval()
    assert found == {(net(x).argmax(1) == y).double().mean().item()}


@pytest.mark.parametrize(
    ("y", "complaint"),
    [
        (torch.zeros(4), r"y must hold whole numbers, shape \(n,\); got torch.float32 of shape \(4,\)"),
        (torch.zeros(4, 1, dtype=torch.long), r"got torch.int64 of shape \(4, 1\)"),
        (torch.tensor([0, 1, 2, 3]), r"y must lie in \[0, 3\); got labels from 0 to 3"),
        (torch.tensor([-1, 1, 2, 0]), "got labels from -1 to 2"),
    ],
)
def test_wrong_labels_are_refused(y, complaint):
    with pytest.raises(ValueError, match=complaint):
        mlp_classifier((2,), 3).loss((torch.zeros(4, 2), y))


def test_wrong_shapes_and_sizes_are_refused():
    with pytest.raises(ValueError, match=r"x must have shape \(n, 2\)"):
        mlp_classifier((2,), 3)(torch.zeros(4, 3))
    with pytest.raises(ValueError, match="classes must be a positive whole number; got 0"):
        mlp_classifier((2,), 0)
