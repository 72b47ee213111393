"""Chains in the noise: a step for every block, warnings of large ones, and buffers that keep what is worth keeping."""

import warnings
from functools import partial

import pytest
import torch
from torch import nn

from gmcourse import checkpoint
from gmcourse.compositions.negatives import NoiseChains, noise_energy
from gmcourse.compositions.persistence import Persistence
from gmcourse.compositions.tilted import Tilted
from gmcourse.model import StandardNormal
from gmcourse.sampling import HMC, MALA, ULA
from gmcourse.vae import VAE, Gaussian, GaussianEncoder

SIGMA, BLOCKS = 0.5, {"z": 2, "x": 3}


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def linear_vae() -> VAE:
    torch.manual_seed(0)
    encoder = GaussianEncoder(nn.Linear(3, 4))
    return VAE((3,), encoder, nn.Linear(2, 3, bias=False), prior=StandardNormal(2), likelihood=Gaussian(SIGMA))


def quadratic(x):
    return 0.5 * (x - 1).square().sum(1)


def test_a_step_for_every_block_moves_each_block_by_its_own():
    """Written out, block by block, with the same noise."""
    base, eps, steps = linear_vae(), torch.randn(6, 5), {"z": 0.1, "x": 0.4}
    chains = NoiseChains(4, {"x": 0.4, "z": 0.1})
    ends = chains.run(base, quadratic, eps, seeded())
    generator, at = seeded(), eps
    for _ in range(4):
        at = at.detach().requires_grad_()
        (slope,) = torch.autograd.grad(noise_energy(base, quadratic)(at).sum(), at)
        omega = torch.randn(6, 5, generator=generator)
        moved = []
        for eta, columns in zip(steps.values(), (slice(0, 2), slice(2, 5)), strict=True):
            moved.append(at[:, columns] - eta / 2 * slope[:, columns] + eta**0.5 * omega[:, columns])
        at = torch.cat(moved, 1)
    assert torch.allclose(ends, at.detach(), atol=1e-5)


def test_the_same_step_for_every_block_is_one_step():
    base, eps = linear_vae(), torch.randn(6, 5)
    one, many = NoiseChains(5, 0.2), NoiseChains(5, {"z": 0.2, "x": 0.2})
    assert torch.allclose(one.run(base, quadratic, eps, seeded()), many.run(base, quadratic, eps, seeded()), atol=1e-5)


def test_steps_for_every_block_keep_the_tilted_law():
    """Metropolis-tested chains of a linear base under ½‖x − 1‖²: precision I + JᵀJ in ε, mean from Jᵀ1."""
    base, n = linear_vae(), 6000
    w = base.decoder.weight.detach()
    jacobian = torch.cat([w, SIGMA * torch.eye(3)], 1)
    covariance = (torch.eye(5) + jacobian.T @ jacobian).inverse()
    mean = covariance @ jacobian.T @ torch.ones(3)
    eps = NoiseChains(100, {"z": 0.5, "x": 1.0}, sampler=MALA).draw(base, quadratic, n, seeded())
    assert ((eps.mean(0) - mean).abs() < 5 * covariance.diagonal().sqrt() / n**0.5).all()
    assert ((eps.T.cov() - covariance).abs() < 7 / n**0.5).all()


def test_steps_that_are_too_large_are_told_once():
    base = linear_vae()
    chains = NoiseChains(1, 0.5, width=0.1)
    with pytest.warns(UserWarning, match=r"step 0.5 in z \(bound 0\.\d+\), 0.5 in x \(bound 0.15\)"):
        chains.draw(base, quadratic, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chains.draw(base, quadratic, 2)
        NoiseChains(1, 0.5, width=10.0).draw(base, quadratic, 2)
        NoiseChains(1, {"z": 0.01, "x": 0.1}, width=0.1).draw(base, quadratic, 2)


def test_looking_for_the_bound_draws_nothing_from_the_chains_noise():
    base = linear_vae()
    ends = [NoiseChains(3, 0.1, width=width).draw(base, quadratic, 4, seeded()) for width in (None, 10.0)]
    assert torch.equal(*ends)


def test_the_buffer_keeps_the_latents_and_the_paint_is_fresh():
    kept = Persistence(50, BLOCKS, probability=1.0)
    eps = kept.draw(50, generator=seeded())
    assert eps.shape == (50, 5) and kept.buffer.chains.shape == (50, 2)
    marked = torch.cat([torch.arange(100.0).reshape(50, 2), torch.full((50, 3), 99.0)], 1)
    kept.put(marked)
    again = kept.draw(50, generator=seeded(1))
    assert torch.equal(again[:, :2].sort(0)[0], marked[:, :2])
    assert again[:, 2:].abs().max() < 6


def test_without_a_fresh_block_all_is_kept():
    everything = {"buffer": Persistence(8, BLOCKS, fresh=None), "flow": Persistence(8, 5), "z": Persistence(8, {"z": 5})}
    assert all(kept.buffer.chains.shape == (8, 5) for kept in everything.values())
    assert Persistence(8, BLOCKS, fresh="z").buffer.chains.shape == (8, 3)


def test_the_probability_of_a_kept_chain_grows_linearly_and_then_stays():
    """Chains are marked by 99; the share of marks after k of 20 draws is .6 k/20, and .6 from then on."""
    kept, n = Persistence(4000, BLOCKS, probability=0.6, ramp=20), 4000
    for k, p in {0: 0.0, 5: 0.15, 10: 0.3, 20: 0.6, 33: 0.6}.items():
        kept.buffer.chains.fill_(99.0)
        kept.draws.fill_(k)
        assert kept.probability == pytest.approx(p)
        share = float((kept.draw(n, generator=seeded(k))[:, 0] == 99).float().mean())
        assert abs(share - p) <= 5 * (p * (1 - p) / n) ** 0.5
        assert int(kept.draws) == k + 1


def test_only_training_counts():
    chains = NoiseChains(2, 0.1, persistence=Persistence(8, BLOCKS, probability=0.6, ramp=4))
    base = linear_vae()
    for _ in range(3):
        chains.train()(base, quadratic, 8)
    chains.eval()(base, quadratic, 8)
    chains.draw(base, quadratic, 8)
    assert int(chains.persistence.draws) == 3 and chains.persistence.probability == pytest.approx(0.45)


def test_samples_may_take_longer_chains_than_training():
    base, chains = linear_vae(), NoiseChains(2, 0.1, sample_steps=7)
    eps = base.noise(4, generator=seeded(1))
    runs = {steps: base.push(chains.run(base, quadratic, eps, seeded(), steps=steps)) for steps in (2, 7)}
    base.noise = lambda n, generator=None: eps  # the start is given, so the generator is the chains' alone
    assert torch.equal(chains(base, quadratic, 4, seeded()).x, runs[2])
    assert torch.equal(base.push(chains.draw(base, quadratic, 4, seeded())), runs[7])


def test_a_file_brings_back_the_chains_and_the_count(tmp_path):
    one, other = (
        Tilted(StandardNormal(2), nn.Sequential(nn.Linear(2, 1), nn.Flatten(0)), NoiseChains(2, 0.1, persistence=kept))
        for kept in (Persistence(8, 2, ramp=10), Persistence(8, 2, ramp=10))
    )
    for _ in range(3):
        one.loss(torch.randn(8, 2))
    checkpoint.load(checkpoint.save(tmp_path / "tilted.safetensors", one, {}), other)
    ours, theirs = one.negatives.persistence, other.negatives.persistence
    assert torch.equal(ours.buffer.chains, theirs.buffer.chains) and int(theirs.draws) == 3


def test_bad_input_is_named():
    for sampler, name in ((HMC, "HMC"), (partial(HMC, leaps=3), "HMC")):
        with pytest.raises(ValueError, match=f"sampler must take a preconditioner for one step per block; .*{name}"):
            NoiseChains(10, {"z": 0.1}, sampler=sampler)
    with pytest.raises(ValueError, match="step of x must be positive; got -0.1"):
        NoiseChains(10, {"z": 0.1, "x": -0.1}, sampler=ULA)
    with pytest.raises(ValueError, match="step must name the blocks of the base, z, x; got z, y"):
        NoiseChains(10, {"z": 0.1, "y": 0.1}, width=0.1).draw(linear_vae(), quadratic, 3)
    with pytest.raises(ValueError, match="sample_steps must be a positive whole number; got 0"):
        NoiseChains(10, 0.1, sample_steps=0)
    with pytest.raises(ValueError, match="width must be positive; got 0"):
        NoiseChains(10, 0.1, width=0.0)
    with pytest.raises(ValueError, match="fresh must name a block of z, x; got 'latents'"):
        Persistence(8, BLOCKS, fresh="latents")
    with pytest.raises(ValueError, match=r"probability must lie in \[0, 1\]; got 1.5"):
        Persistence(8, BLOCKS, probability=1.5)
    with pytest.raises(ValueError, match="ramp must be a positive whole number; got -1"):
        Persistence(8, BLOCKS, ramp=-1)
    with pytest.raises(ValueError, match="blocks must leave something to keep beside 'x'"):
        Persistence(8, {"x": 3})
    with pytest.raises(ValueError, match="capacity must be at least the number of chains drawn, 9; got 8"):
        Persistence(8, BLOCKS).draw(9)
