"""How a style gets into a picture: adaptive instance normalisation, thesis 2.5.3."""

import torch
from torch import Tensor
from torch.nn.functional import group_norm

from gmcourse.exercises.core import Random
from gmcourse.exercises.student import Student

EPS = 1e-5


def adain(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """x (n, c, h, w), each channel of each picture with mean 0 and variance 1, times scale plus shift, (n, c); 2.5.3.

    The variance is that of the population, 1e-5 is added to it. A group of one channel is one instance.
    """
    n, c = scale.shape
    return group_norm(x, c, eps=EPS) * scale.reshape(n, c, 1, 1) + shift.reshape(n, c, 1, 1)


def _normalised(x: Tensor, dims: tuple[int, ...] = (2, 3), correction: int = 0) -> Tensor:
    variance, mean = torch.var_mean(x, dims, correction=correction, keepdim=True)
    return (x - mean) / (variance + EPS).sqrt()


def _adain(student: Student, x: Tensor, scale: Tensor, shift: Tensor) -> None:
    a, b, plain = scale[:, :, None, None], shift[:, :, None, None], _normalised(x)
    variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    suspects = [
        ("the statistics are those of the whole batch: each picture has its own", a * _normalised(x, (0, 2, 3)) + b),
        ("the statistics are those of all channels together: each has its own", a * _normalised(x, (1, 2, 3)) + b),
        ("the statistics are those of one pixel over its channels", a * _normalised(x, (1,)) + b),
        ("the statistics are those of rows: a channel's are of all its pixels", a * _normalised(x, (3,)) + b),
        ("the statistics are those of columns: a channel's are of all its pixels", a * _normalised(x, (2,)) + b),
        ("that is the variance of a sample, with n − 1: here it is the population's", a * _normalised(x, correction=1) + b),
        ("1e-5 is missing: a channel without any variance would be divided by 0", a * (x - mean) / variance.sqrt() + b),
        ("1e-5 is to be added to the variance, not to the standard deviation", a * (x - mean) / (variance.sqrt() + EPS) + b),
        ("what is divided by is a variance: that of the result is not 1", a * (x - mean) / (variance + EPS) + b),
        ("the mean is not taken off: what is that of the result?", a * x / (variance + EPS).sqrt() + b),
        ("the variance is not made 1", a * (x - mean) + b),
        ("x is not normalised at all", a * x + b),
        ("the scale is squared: it is a standard deviation", a.square() * plain + b),
        ("the scale is a standard deviation, not a variance", a.abs().sqrt() * plain + b),
        ("the shift is scaled, too: which of both comes first?", a * (plain + b)),
        ("1 is added to the scale: that is another convention", (1 + a) * plain + b),
        ("scale and shift are swapped", b * plain + a),
        ("the shift is missing: what mean has the result?", a * plain),
        ("the scale is missing: what deviation has the result?", plain + b),
        ("the style is missing: scale and shift are not used", plain),
        ("the shift is taken off: it is to be the new mean", a * plain - b),
        ("what is to be multiplied by the scale is divided by it", plain / a + b),
    ]
    if scale.shape[0] == scale.shape[1]:
        across = "pictures and channels are swapped: a row of scale is one picture's style"
        suspects.append((across, a.transpose(0, 1) * plain + b.transpose(0, 1)))
    hint = "mean and variance over the pixels of one channel of one picture; then scale and shift of that channel"
    student(x=x, scale=scale, shift=shift).should_be(adain(x, scale, shift), hint, suspects)


def _pictures(random: Random, n: int, c: int) -> Tensor:
    """Channels of all strengths, faint ones too, where the 1e-5 shows."""
    return random.normal(n, c, 1, 1) + random.uniform(-5, 0, n, c, 1, 1).exp() * random.normal(n, c, 5, 7)


def without_a_style(student: Student, random: Random) -> None:
    """Scale 1 and shift 0: nothing but the normalisation."""
    n, c = random.sizes(2)
    x = _pictures(random, n, c)
    _adain(student, x, torch.ones(n, c, dtype=x.dtype), torch.zeros(n, c, dtype=x.dtype))


def with_a_style(student: Student, random: Random) -> None:
    """As many pictures as channels, where one taken for the other would show in no shape."""
    (n,) = random.sizes(1)
    _adain(student, _pictures(random, n, n), 1 + random.uniform(0.2, 1, n, n), random.normal(n, n))
