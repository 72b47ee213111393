"""Couplings: what stays, what moves, and the masks."""

import pytest
import torch

from gmcourse.flows import Affine, Coupling, alternating, channels, checkerboard, conditioner, random


def coupling(mask):
    kept = int(mask.sum())
    return Coupling(mask, conditioner(kept, 2 * (mask.numel() - kept), (8,)), Affine())


@pytest.mark.parametrize("mask", [alternating(5), alternating(5, flip=True), random(5, seed=3), channels(5)])
def test_kept_coordinates_stay_and_the_others_move_as_thesis_2_28_says(mask):
    layer, x = coupling(mask).double(), torch.randn(7, 5, dtype=torch.float64)
    z, _ = layer(x)
    assert torch.equal(z[:, mask], x[:, mask]) and (z[:, ~mask] != x[:, ~mask]).all()
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0].sum(0), x).transpose(0, 1)
    assert torch.equal(jacobian[:, mask][:, :, mask], torch.eye(int(mask.sum())).double().expand(7, -1, -1))
    assert (jacobian[:, mask][:, :, ~mask] == 0).all()
    moved = jacobian[:, ~mask][:, :, ~mask]
    assert torch.equal(moved, torch.diag_embed(moved.diagonal(dim1=1, dim2=2)))


def test_affine_coupling_is_realnvp_written_out():
    layer, x = coupling(alternating(4)), torch.randn(6, 4)
    h = layer.net(x[:, [0, 2]])
    shift, log_scale = h[:, :2], 5 * torch.tanh(h[:, 2:] / 5)
    wanted = torch.stack([x[:, 0], x[:, 1] * log_scale[:, 0].exp() + shift[:, 0],
                          x[:, 2], x[:, 3] * log_scale[:, 1].exp() + shift[:, 1]], 1)  # fmt: skip
    z, contribution = layer(x)
    assert torch.allclose(z, wanted, atol=1e-6) and torch.allclose(contribution, log_scale.sum(1), atol=1e-6)


def test_a_channel_mask_moves_whole_channels_of_images():
    layer = Coupling(channels(4, flip=True), torch.nn.Conv2d(2, 4, 3, padding=1), Affine())
    x = torch.randn(3, 4, 5, 5)
    z, contribution = layer(x)
    assert z.shape == x.shape and contribution.shape == (3,)
    assert torch.equal(z[:, 2:], x[:, 2:]) and (z[:, :2] != x[:, :2]).all()


def test_masks_keep_what_they_say():
    assert alternating(4).tolist() == [True, False, True, False]
    assert alternating(3, flip=True).tolist() == [False, True, False]
    assert checkerboard((1, 2, 3)).tolist() == [[[True, False, True], [False, True, False]]]
    assert torch.equal(checkerboard((2, 3, 3), flip=True), ~checkerboard((2, 3, 3)))
    assert channels(4).tolist() == [True, True, False, False]
    assert random(9).sum() == 5 and not torch.equal(random(20, seed=1), random(20, seed=2))


@pytest.mark.parametrize("mask", [torch.ones(3), torch.zeros(3), torch.tensor(True)])
def test_a_mask_that_keeps_or_moves_nothing_is_refused(mask):
    with pytest.raises(ValueError, match="mask must keep at least one coordinate and move at least one; got"):
        Coupling(mask, torch.nn.Identity(), Affine())


def test_a_wrong_dimension_is_named():
    with pytest.raises(ValueError, match=r"x must have shape \(n, 4\); got \(5, 6\)"):
        coupling(alternating(4))(torch.zeros(5, 6))
