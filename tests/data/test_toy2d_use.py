"""Using the densities of the plane: their names, their speed, and what happens when they are given nonsense."""

import math
import time
from statistics import median

import pytest
import torch

from gmcourse.data import toy2d

sharp = pytest.mark.parametrize("name", toy2d.NAMES)


@sharp
def test_hundred_thousand_log_probs_take_a_tenth_of_a_second(name):
    """On one thread, in float32; the bound is doubled for machines that are busy otherwise."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        p = toy2d.get(name)
        x = p.sample((100_000,), generator=torch.Generator().manual_seed(0))
        seconds = []
        for _ in range(7):
            start = time.process_time()
            p.log_prob(x)
            seconds.append(time.process_time() - start)
    finally:
        torch.set_num_threads(threads)
    assert median(seconds) < 2 * 0.1


def test_get_knows_all_names():
    classes = {type(toy2d.get(name)).__name__ for name in toy2d.NAMES}
    assert classes == {
        "Gaussians25", "Gaussians25Dot", "GaussianGrid9", "Gaussians8", "SwissRoll",
        "TwoMoons", "Rings", "Pinwheel", "Checkerboard",
    }  # fmt: skip
    with pytest.raises(ValueError, match="name must be one of gaussians25, .*checkerboard; got 'moons'"):
        toy2d.get("moons")


@sharp
def test_wrong_points_are_refused(name):
    p = toy2d.get(name)
    for method in (p.log_prob, p.score):
        for x in (torch.zeros(5), torch.zeros(5, 3), torch.zeros(())):
            with pytest.raises(ValueError, match=r"x must have shape \(\.\.\., 2\); got \("):
                method(x)
        with pytest.raises(ValueError, match="x must hold floating-point numbers; got torch.int64"):
            method(torch.zeros(5, 2, dtype=torch.long))


@sharp
def test_wrong_noise_is_refused(name):
    p = toy2d.get(name)
    for alpha, sigma in ((-0.1, 1.0), (1.0, -0.1), (0.0, 0.0), (math.nan, 1.0), (1.0, math.inf)):
        with pytest.raises(ValueError, match="alpha and sigma must be finite, at least 0 and not both 0; got alpha"):
            p.diffused(alpha, sigma)
    for sigma in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="sigma must be positive and finite; got"):
            type(p)(sigma=sigma)


def test_other_wrong_parameters_are_refused():
    for wrong, named in (
        (lambda: toy2d.Gaussians25(sigma=0.0), "sigma must be positive and finite; got 0.0"),
        (lambda: toy2d.Rings(radii=()), "radii must be positive and finite, at least one"),
        (lambda: toy2d.Rings(radii=(1.0, -1.0)), "radii must be positive"),
        (lambda: toy2d.Pinwheel(blades=0), "blades must be a positive whole number; got 0"),
        (lambda: toy2d.Checkerboard(side=0.0), "side must be positive and finite; got 0.0"),
    ):
        with pytest.raises(ValueError, match=named):
            wrong()
