r"""Embeddings: coordinates and times seen as waves, so that a small net can learn detail.

    x ↦ (x, sin xW, cos xW),      W ~ N(0, scale²), fixed                        Rahimi & Recht 2007; Tancik et al. 2020
    x ↦ (x, sin kx_i, cos kx_i),  each coordinate i by itself, k chosen
    t ↦ (sin tω_k, cos tω_k),     ω_k = 10000^{−k/(K−1)}, k = 0 … K−1            Vaswani et al. 2017; Ho et al. 2020
    t ↦ (sin 2πtw, cos 2πtw),     w ~ N(0, scale²), fixed                        Song et al. 2021

A net with smooth activations learns slow functions of its input first, and what changes within a tenth of the data's spread
very late. Of a sine of the right frequency such detail is a slow function. `scale` says what is seen: structure of width
about 1/scale, in the units of x. Times of chains are whole numbers 0, 1, …; those of diffusions lie in [0, 1].
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.model import check_positive


class FourierFeatures(nn.Module):
    """x (..., inputs) -> (x, sin xW, cos xW), shape (..., inputs + 2·columns); W is a buffer, saved with the weights.

    Args:
        inputs: length of x.
        columns: number of random frequencies.
        scale: their standard deviation, in radians per unit of x.

    >>> FourierFeatures(2, columns=3)(torch.zeros(5, 2)).shape
    torch.Size([5, 8])
    """

    def __init__(self, inputs: int, columns: int = 32, scale: float = 4.0):
        super().__init__()
        if columns < 1:
            raise ValueError(f"columns must be at least 1; got {columns}")
        check_positive(scale, "scale")
        self.outputs = inputs + 2 * columns
        self.register_buffer("frequencies", scale * torch.randn(inputs, columns))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        phase = x @ self.frequencies
        return torch.cat([x, phase.sin(), phase.cos()], -1)

    def extra_repr(self) -> str:
        """Sizes, as in the constructor."""
        return f"{self.frequencies.shape[0]}, columns={self.frequencies.shape[1]}"


class AxisWaves(nn.Module):
    """x (n, d) -> (x, sin kx_i, cos kx_i) for each coordinate i and each frequency k, (n, d + 2·d·frequencies).

    >>> AxisWaves(2, [1.0, 2.0])(torch.zeros(3, 2)).shape
    torch.Size([3, 10])
    """

    def __init__(self, inputs: int, frequencies: Sequence[float]):
        super().__init__()
        self.outputs = inputs * (1 + 2 * len(frequencies))
        self.register_buffer("frequencies", torch.as_tensor(frequencies))

    def forward(self, x: Tensor) -> Tensor:
        """Frequencies are in radians per unit of x."""
        phase = (x[..., None] * self.frequencies).flatten(1)
        return torch.cat([x, phase.sin(), phase.cos()], 1)


class SinusoidalTime(nn.Module):
    """t (n,) -> (sin tω, cos tω), shape (n, outputs), with wavelengths from 2π to 20000π.

    Args:
        outputs: even, at least 4.
        scale: what floating-point times in [0, 1] are multiplied by; whole numbers are taken as they are.

    >>> SinusoidalTime(8)(torch.tensor([0, 500])).shape, SinusoidalTime(8)(torch.tensor([0.0, 0.5])).shape
    (torch.Size([2, 8]), torch.Size([2, 8]))
    """

    def __init__(self, outputs: int = 128, scale: float = 1000.0):
        super().__init__()
        if outputs < 4 or outputs % 2:
            raise ValueError(f"outputs must be even and at least 4; got {outputs}")
        check_positive(scale, "scale")
        self.outputs, self.scale = outputs, float(scale)
        k = torch.arange(outputs // 2, dtype=torch.float64)
        frequencies = torch.exp(-math.log(10_000) * k / (outputs // 2 - 1)).to(torch.get_default_dtype())
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, t: Tensor) -> Tensor:
        """(n,) -> (n, outputs)."""
        t = t * self.scale if t.is_floating_point() else t
        phase = _column(t, self.frequencies) * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], -1)

    def extra_repr(self) -> str:
        """Sizes, as in the constructor."""
        return f"{self.outputs}, scale={self.scale:g}"


class FourierTime(nn.Module):
    """t (n,) in [0, 1], or its logarithm -> (sin 2πtw, cos 2πtw), shape (n, outputs); w is a buffer, saved with the weights.

    Args:
        outputs: even.
        scale: standard deviation of w; 16 sees steps of about 1/100 of the time there is.
    """

    def __init__(self, outputs: int = 128, scale: float = 16.0):
        super().__init__()
        if outputs < 2 or outputs % 2:
            raise ValueError(f"outputs must be even and at least 2; got {outputs}")
        check_positive(scale, "scale")
        self.outputs = outputs
        self.register_buffer("frequencies", scale * torch.randn(outputs // 2))

    def forward(self, t: Tensor) -> Tensor:
        """(n,) -> (n, outputs); ValueError for whole numbers, the times of a chain, for which all waves come to rest."""
        if not t.is_floating_point():
            raise ValueError(f"t must be a floating-point time; got {t.dtype}: divide by the number of steps")
        phase = 2 * math.pi * _column(t, self.frequencies) * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], -1)

    def extra_repr(self) -> str:
        """Sizes, as in the constructor."""
        return f"{self.outputs}"


def times_for(t: Tensor, x: Tensor) -> Tensor:
    """t as one time for each x (n, ...), shape (n,), on the device of x; a scalar is the time of all. Else ValueError."""
    t = torch.as_tensor(t, device=x.device)
    if t.shape not in ((), (len(x),)):
        raise ValueError(f"t must have shape ({len(x)},), one time for each x, or be one number; got {tuple(t.shape)}")
    return t.expand(len(x))


def _column(t: Tensor, like: Tensor) -> Tensor:
    if t.ndim != 1:
        raise ValueError(f"t must have shape (n,); got {tuple(t.shape)}")
    return t.to(like)[:, None]
