"""Adam with gradients clipped at three of its own standard deviations, against `torch.optim.Adam`."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from gmcourse.fit import fit
from gmcourse.model import Trainable
from gmcourse.training.clipped_adam import ClippedAdam

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.99), "weight_decay": 3e-5}


def weights(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (5,), ())]


def move(optimizer, gradients):
    """One step with given gradients."""
    for p, g in zip(optimizer.param_groups[0]["params"], gradients, strict=True):
        p.grad = g.clone()
    optimizer.step()


def tame(k):
    """Gradients of size 1 to 1.1, of all signs: none beyond three deviations."""
    generator = torch.Generator().manual_seed(k)
    draws = [torch.randn(shape, generator=generator) for shape in ((4, 3), (5,), ())]
    return [g.sign() * (1 + 0.1 * g.sigmoid()) for g in draws]


def test_without_outliers_it_is_adam_bit_for_bit():
    one, other = weights(), weights()
    clipped, plain = ClippedAdam(one, **SETTINGS), torch.optim.Adam(other, **SETTINGS)
    for k in range(30):
        move(clipped, tame(k))
        move(plain, tame(k))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_outlier_is_clipped_to_three_deviations_of_what_was_before_it():
    """1000σ and 3σ make the same step, bit for bit, and leave the same moments; Adam's own step is longer."""
    moved = {}
    for name, kind, size in (("far", ClippedAdam, 1000.0), ("near", ClippedAdam, 3.0), ("adam", torch.optim.Adam, 1000.0)):
        start = weights()
        optimizer = kind(start, **SETTINGS)
        for k in range(10):
            move(optimizer, tame(k))
        before = [p.detach().clone() for p in start]
        deviations = [(optimizer.state[p]["exp_avg_sq"] / (1 - 0.99**10)).sqrt() for p in start]
        move(optimizer, [-size * d for d in deviations])
        moved[name] = [p.detach() - b for p, b in zip(start, before, strict=True)]
        if name != "adam":
            assert all(torch.allclose(p.grad, -3 * d, rtol=1e-5) for p, d in zip(start, deviations, strict=True))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(moved["far"], moved["near"], strict=True))
    assert all((a.abs() > 1.5 * b.abs()).any() for a, b in zip(moved["adam"], moved["far"], strict=True))


def test_each_number_is_clipped_by_itself():
    p = nn.Parameter(torch.zeros(3))
    optimizer = ClippedAdam([p], deviations=2.0)
    move(optimizer, [torch.tensor([1.0, 10.0, 0.0])])
    move(optimizer, [torch.tensor([5.0, -5.0, 5.0])])
    assert torch.allclose(p.grad, torch.tensor([2.0, -5.0, 5.0]))  # where nothing was seen before there is no bound


def test_a_state_dict_resumes_it():
    wild = [[g * (50.0 if k % 7 == 6 else 1.0) for g in tame(k)] for k in range(20)]
    one, other = weights(), weights()
    whole, first = ClippedAdam(one, **SETTINGS), ClippedAdam(other, **SETTINGS)
    for gradients in wild:
        move(whole, gradients)
    for gradients in wild[:9]:
        move(first, gradients)
    second = ClippedAdam(other, **SETTINGS)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for gradients in wild[9:]:
        move(second, gradients)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


class Line(Trainable):
    """Least squares, with a rare datum that is far out."""

    def __init__(self):
        super().__init__((1,))
        self.mean = nn.Parameter(torch.zeros(1))

    def loss(self, x):
        return (x - self.mean).square().sum(1)


def test_fit_takes_it_and_resumes_it(tmp_path):
    data = torch.randn(64, 1, generator=torch.Generator().manual_seed(0))
    data[3] = 1e4
    settings = {"batch_size": 4, "lr": 0.05, "optimizer": partial(ClippedAdam, betas=(0.9, 0.99)), "progress": False}
    whole, parts, adam = Line(), Line(), Line()
    fit(whole, data, steps=60, **settings)
    run = {"checkpoint": tmp_path / "run", "checkpoint_every": 7}
    fit(parts, data, steps=60, **settings, **run, callback=lambda step, model: step == 31)
    fit(parts, data, steps=60, **settings, **run)
    assert torch.equal(whole.mean, parts.mean)
    fit(adam, data, steps=60, **settings | {"optimizer": partial(torch.optim.Adam, betas=(0.9, 0.99))})
    assert whole.mean.abs() < 0.5 and not torch.equal(whole.mean, adam.mean)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="deviations must be positive; got 0"):
        ClippedAdam(weights(), deviations=0)
