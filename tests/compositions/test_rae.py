"""The penalty on the codes of a regularised auto-encoder."""

import pytest
import torch
from torch import nn

from gmcourse import checkpoint
from gmcourse.compositions.rae import RegularisedAutoencoder
from gmcourse.fit import fit
from gmcourse.mixture import MixtureModel


def linear(**options):
    torch.manual_seed(0)
    return RegularisedAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), MixtureModel(3, 2), **options)


def test_the_loss_is_the_weighted_error_and_half_the_squared_norm():
    model, x = linear(penalty=0.6, beta=3.0), torch.randn(5, 4)
    z = x @ model.encoder.weight.T + model.encoder.bias
    error = x - (z @ model.decoder.weight.T + model.decoder.bias)
    wanted = 3.0 * 0.5 * (error**2).sum(1) + 0.6 * 0.5 * (z**2).sum(1)
    assert torch.allclose(model.loss(x), wanted, atol=1e-5)


def test_a_penalty_of_zero_is_the_plain_auto_encoder():
    model, x = linear(penalty=0), torch.randn(5, 4)
    assert torch.equal(model.loss(x), model.distortion(x, model.decoder(model.encoder(x))))


@pytest.mark.parametrize("penalty", [0.0, 1.0, 10.0])
def test_where_the_decoder_is_held_the_best_codes_shrink_by_one_plus_the_penalty(penalty):
    model, x = linear(penalty=penalty), torch.randn(50, 4)
    held = torch.eye(4)[:, :2]
    with torch.no_grad():
        model.decoder.weight.copy_(held)
        model.encoder.weight.copy_(held.T / (1 + penalty))  # the minimum of (z − y)²/2 + γ z²/2 is at z = y/(1 + γ)
        model.encoder.bias.zero_()
        model.decoder.bias.zero_()
    model.loss(x).mean().backward()
    assert all(p.grad.abs().max() < 1e-5 for p in model.encoder.parameters())
    assert model.decoder.weight.grad.abs().max() > 1e-2 or penalty == 0


def test_the_prior_is_no_part_of_training():
    model = linear()
    before = {name: b.clone() for name, b in model.prior.named_buffers()}
    fit(model, torch.randn(64, 4), steps=3, progress=False)
    assert all(torch.equal(b, before[name]) for name, b in model.prior.named_buffers())


def test_a_checkpoint_holds_the_prior(tmp_path):
    model, other = linear(), linear()
    model.prior.means.normal_()
    checkpoint.save(tmp_path / "m.safetensors", model)
    checkpoint.load(tmp_path / "m.safetensors", other)
    first, second = (m.sample(6, generator=torch.Generator().manual_seed(1)) for m in (model, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize("penalty", [-0.1, float("inf"), float("nan")])
def test_a_penalty_below_zero_or_not_finite_is_refused(penalty):
    with pytest.raises(ValueError, match=f"penalty must be at least 0; got {penalty}"):
        linear(penalty=penalty)


def test_a_mixture_has_no_push_and_says_so():
    with pytest.raises(NotImplementedError, match="prior MixtureModel has no push"):
        linear().noise_blocks  # noqa: B018
