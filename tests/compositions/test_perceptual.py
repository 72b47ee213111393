"""The perceptual loss: what it measures, and that the net it looks through stays as it is."""

import pytest
import torch
from torch import nn

from gmcourse import checkpoint, fit
from gmcourse.classifier import conv_classifier, mlp_classifier
from gmcourse.compositions.autoencoder import SquaredError
from gmcourse.compositions.latent_flow import GenerativeLatentFlow
from gmcourse.compositions.perceptual import PerceptualLoss
from gmcourse.flows import real_nvp


def restless() -> nn.Sequential:
    """A net that behaves differently in training mode."""
    return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 8), nn.Tanh())


def owner(net: nn.Module, **options) -> GenerativeLatentFlow:
    nets = nn.Linear(4, 2), nn.Linear(2, 4)
    return GenerativeLatentFlow((4,), *nets, real_nvp((2,), layers=2), distortion=PerceptualLoss(net, **options))


def test_it_is_the_mean_absolute_difference_of_each_layer_summed_over_layers():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        net[1].weight.copy_(torch.tensor([[3.0, 1.0]]))
    x, found = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 1.0]])
    # x − x̂ = (1, −1), (0, −1); after the first layer (−1, 1), (−2, 1); after the second −2, −5
    assert PerceptualLoss(net, (0, 1), weight=10.0)(x, found).tolist() == [10 * (1 + 2), 10 * (1.5 + 5)]
    assert PerceptualLoss(net, ("1",))(x, found).tolist() == [2, 5]


def test_a_loss_on_the_pixels_is_added_as_it_is():
    torch.manual_seed(0)
    x, found = torch.randn(2, 5, 4)
    net, pixels = restless(), SquaredError(0.5)
    both = PerceptualLoss(net, weight=3.0, pixels=pixels)(x, found)
    assert torch.allclose(both, 3 * PerceptualLoss(net)(x, found) + (x - found).square().sum(1) / 0.5)


def test_it_is_zero_for_equal_images_and_with_pixels_for_no_others():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    x = torch.randn(6, 4)
    assert PerceptualLoss(net, pixels=SquaredError())(x, x).eq(0).all()
    _, _, v = torch.linalg.svd(net[0].weight)
    unseen = x + v[3]  # the net's first layer does not see this direction
    assert PerceptualLoss(net)(x, unseen).max() < 1e-6
    assert torch.allclose(PerceptualLoss(net, pixels=SquaredError())(x, unseen), torch.full((6,), 0.5), atol=1e-5)


def test_unless_told_otherwise_it_looks_at_all_activation_functions_of_a_classifiers_trunk():
    loss = PerceptualLoss(conv_classifier((1, 8, 8), 3, channels=4))
    assert loss.layers == ("0.layers.1", "0.layers.3", "0.layers.5", "0.layers.7")
    shapes = [tuple(a.shape) for a in loss.activations(torch.zeros(2, 1, 8, 8))]
    assert shapes == [(2, 4, 4, 4), (2, 4, 4, 4), (2, 8, 2, 2), (2, 8, 2, 2)]


def test_the_gradient_is_that_of_the_reconstruction_alone():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.Tanh()).double()
    loss = PerceptualLoss(net, pixels=SquaredError())
    x = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    found = torch.randn(5, 4, dtype=torch.double, requires_grad=True)
    loss(x, found).sum().backward()
    assert x.grad is None and all(p.grad is None for p in [*net.parameters(), *loss.parameters()])
    slope = (net(found) - net(x)).sign() / 3 * (1 - net(found) ** 2) @ net[0].weight
    assert torch.allclose(found.grad, slope + (found - x))


def test_the_net_given_is_left_trainable_and_the_copy_does_not_follow_it():
    net = restless().train()
    loss = PerceptualLoss(net)
    x, found = torch.randn(2, 5, 4)
    before = loss(x, found)
    with torch.no_grad():
        net[0].weight.zero_()
    assert net.training and all(p.requires_grad for p in net.parameters())
    assert torch.equal(loss(x, found), before)


def test_the_mode_of_the_owner_changes_neither_the_loss_nor_the_nets_statistics():
    torch.manual_seed(0)
    model, (x, found) = owner(restless()), torch.randn(2, 64, 4)
    statistics = [b.clone() for b in model.distortion.buffers()]
    before = model.eval().distortion(x, found)
    assert torch.equal(model.train().distortion(x, found), before)
    assert all(map(torch.equal, statistics, model.distortion.buffers()))


def test_fit_trains_everything_but_the_net_it_looks_through():
    torch.manual_seed(0)
    model = owner(restless(), weight=10.0)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    history = fit(model, torch.randn(256, 4), steps=3, batch_size=64, progress=False)
    moved = {name for name, t in model.state_dict().items() if not torch.equal(t, before[name])}
    assert history.steps == 3
    assert not {name for name in moved if name.startswith("distortion")}
    assert {name for name, _ in model.named_parameters() if name.startswith(("encoder", "decoder"))} <= moved


def test_a_model_that_is_read_back_sees_through_the_same_net(tmp_path):
    torch.manual_seed(0)
    model, other = owner(mlp_classifier((4,), 3)), owner(mlp_classifier((4,), 3))
    x = torch.randn(5, 4)
    assert not torch.allclose(other.loss(x), model.loss(x))
    checkpoint.load(checkpoint.save(tmp_path / "glf.safetensors", model), other)
    assert torch.equal(other.loss(x), model.loss(x))
    assert not any(p.requires_grad for p in other.distortion.parameters())


def test_what_does_not_fit_is_refused():
    net = restless()
    with pytest.raises(ValueError, match=r"layers must name some of 0, 1, .* got \('2', '9'\)"):
        PerceptualLoss(net, (2, 9))
    with pytest.raises(ValueError, match=r"layers must name some of 0 of the net; got \(\)"):
        PerceptualLoss(nn.Sequential(nn.Linear(4, 4)))
    with pytest.raises(ValueError, match="weight must be positive; got 0"):
        PerceptualLoss(net, weight=0)
    with pytest.raises(ValueError, match=r"same shape; got \(5, 4\) and \(1, 4\)"):
        PerceptualLoss(net)(torch.zeros(5, 4), torch.zeros(1, 4))
