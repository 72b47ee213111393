r"""A small StyleGAN: the noise is not what is drawn on, it tells each layer how to draw (thesis 2.5.3; Karras et al. 2019).

    w = f(z/‖z‖·√d)                                      the mapping network: the style, z ~ N(0, I)
    x = a constant, learned                              what there is to be drawn on, the same for all images
    x ← AdaIN(lrelu(conv(x) + strength·n), w)            twice at each size, n ~ N(0, I) for every pixel
    AdaIN(x, w) = (1 + scale(w)) (x − μ(x))/σ(x) + shift(w)          μ, σ of each channel over its pixels

AdaIN overrides the means and contrasts that the style before has set, so each style rules one convolution. Three uses:

    mixing       coarse layers by one w, fine ones by another; in training, too, so that no layer counts on the one before
    truncation   w ← w̄ + ψ (w − w̄), w̄ = E f(z): nearer to what is common, less of what is rare
    noise        what no style need say, where just a stroke ends, is left to n

Demodulation (Karras et al. 2020) replaces the statistics of the image by those expected for white inputs:

    conv with weights w'_jik = d_j s_i(w) w_jik,   d_j = 1/√(Σ_ik (s_i w_jik)²),        in place of AdaIN, before the noise.

Departures: a tanh at the end; one image at full size, not a sum over sizes; no equalised learning rates, no blur.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmcourse.model import check_count
from gmcourse.nets.conv import pyramid

SLOPE = 0.2  # of leaky ReLUs below 0
MOMENTUM = 0.995  # of the mean style
MODULATIONS = ("adain", "demodulated")


class MappingNetwork(nn.Sequential):
    """z (n, latent) -> w (n, style): z brought to length √latent, then linear layers with leaky ReLU after each."""

    def __init__(self, latent: int, style: int, layers: int = 4):
        parts: list[nn.Module] = []
        for before, after in pairwise([latent, *[style] * check_count(layers, "layers")]):
            linear = nn.Linear(before, after)
            nn.init.kaiming_normal_(linear.weight, SLOPE)  # w is as large as z, however many layers there are
            nn.init.zeros_(linear.bias)
            parts += [linear, nn.LeakyReLU(SLOPE)]
        super().__init__(*parts)

    def forward(self, z: Tensor) -> Tensor:
        """Only the direction of z matters."""
        return super().forward(z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())


class AdaIN(nn.Module):
    """(1 + scale(w))·(x − μ(x))/σ(x) + shift(w); scale and shift are affine in w and start without biases.

    x (n, channels, h, w), or (1, channels, h, w) for all, and w (n, style) -> (n, channels, h, w).
    """

    def __init__(self, channels: int, style: int):
        super().__init__()
        self.affine = nn.Linear(style, 2 * channels)
        nn.init.zeros_(self.affine.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """Channels with mean shift(w) and standard deviation |1 + scale(w)|; a flat channel becomes shift(w)."""
        scale, shift = self.affine(w)[..., None, None].chunk(2, 1)
        return (1 + scale) * torch.group_norm(x, x.shape[1]) + shift  # nn.functional's refuses a single pixel


class DemodulatedConv(nn.Module):
    """3×3 convolution of inputs scaled by s(w); outputs scaled so that white inputs keep variance 1; plus a bias.

    x (n or 1, inputs, h, w) and w (n, style) -> (n, outputs, h, w). s is affine in w and starts around 1.
    """

    def __init__(self, inputs: int, outputs: int, style: int):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.affine, self.bias = nn.Linear(style, inputs), nn.Parameter(torch.zeros(outputs, 1, 1))
        nn.init.ones_(self.affine.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """d·conv(s·x), a convolution with weights d_j s_i w_jik; at the rim, beside zeros, the variance is less."""
        s = self.affine(w)
        d = (s.square() @ self.conv.weight.square().sum((2, 3)).T + 1e-8).rsqrt()
        return torch.addcmul(self.bias, d[..., None, None], self.conv(s[..., None, None] * x))


class StyledLayer(nn.Module):
    """One layer of the synthesis: perhaps ×2, convolution, pixel noise, leaky ReLU, and the style where it belongs."""

    def __init__(self, inputs: int, outputs: int, style: int, *, up: bool, modulation: str):
        super().__init__()
        self.up, self.modulation = up, modulation
        if modulation == "adain":
            self.conv, self.adain = nn.Conv2d(inputs, outputs, 3, padding=1), AdaIN(outputs, style)
        else:
            self.conv = DemodulatedConv(inputs, outputs, style)
        self.strength = nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, x: Tensor, w: Tensor, pixels: Tensor) -> Tensor:
        """x (n or 1, inputs, h, w), w (n, style), pixels (n, 1, h', w') -> (n, outputs, h', w'), h' = 2h if `up`."""
        x = F.interpolate(x, scale_factor=2) if self.up else x
        x = self.conv(x) if self.modulation == "adain" else self.conv(x, w)
        x = F.leaky_relu(torch.addcmul(x, self.strength, pixels), SLOPE)
        return self.adain(x, w) if self.modulation == "adain" else x


class StyleGenerator(nn.Module):
    """ε (n, latent + pixel noise) -> images (n, c, h, w) in [−1, 1]; ε is (z, n) in one row, as `noise_blocks` says.

    In training mode the rows of a batch lend each other their styles (`mixing`) and w̄, `mean_style`, follows the styles: the
    result then depends on more than ε. In evaluation mode it does not.

    Args:
        image: shape (c, h, w), h and w divisible by 2**levels.
        latent, style: lengths of z and w.
        width: channels at full size; twice as many at each size below, down to h/2**levels × w/2**levels.
        levels: how often the size is doubled; there are 2·(levels + 1) styled layers.
        mapping: layers of the mapping network.
        mixing: share of the rows, in training, that take their fine layers' style from the row before.
        modulation: "adain" or "demodulated".
        psi: truncation, in evaluation mode only; 1 is none. It may be set at any time.

    >>> net = StyleGenerator((1, 28, 28)).eval()
    >>> net.noise_blocks
    {'z': 64, 'pixels': 2058}
    >>> net(torch.randn(5, 64 + 2058)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(
        self,
        image: Sequence[int],
        latent: int = 64,
        style: int = 64,
        *,
        width: int = 16,
        levels: int = 2,
        mapping: int = 4,
        mixing: float = 0.9,
        modulation: str = "adain",
        psi: float = 1.0,
    ):
        super().__init__()
        if not 0 <= mixing <= 1:
            raise ValueError(f"mixing must lie in [0, 1]; got {mixing}")
        if modulation not in MODULATIONS:
            raise ValueError(f"modulation must be one of {', '.join(MODULATIONS)}; got {modulation!r}")
        channels, (h, w) = pyramid(image, width, levels)
        channels = [channels[-1] * 2, *channels[::-1]]  # from the coarsest to the finest
        self.mixing, self.psi = mixing, psi
        self.mapping = MappingNetwork(latent, style, mapping)
        self.constant = nn.Parameter(torch.randn(1, channels[0], h, w))
        self.synthesis = nn.ModuleList()
        for level, (before, after) in enumerate(pairwise([channels[0], *channels])):
            for inputs, up in ((before, level > 0), (after, False)):
                self.synthesis.append(StyledLayer(inputs, after, style, up=up, modulation=modulation))
        self.sizes = [(h * 2 ** (k // 2), w * 2 ** (k // 2)) for k in range(self.layers)]
        self.noise_blocks = {"z": latent, "pixels": sum(h * w for h, w in self.sizes)}
        self.to_image = nn.Conv2d(channels[-1], image[0], 1)
        self.register_buffer("mean_style", torch.zeros(style))

    @property
    def layers(self) -> int:
        """Number of layers that a style is given to."""
        return len(self.synthesis)

    def forward(self, eps: Tensor) -> Tensor:
        """(n, latent + pixel noise) -> (n, c, h, w)."""
        z, pixels = self.split(eps)
        w = self.style(z)
        if self.training:
            with torch.no_grad():
                self.mean_style.lerp_(w.mean(0), 1 - MOMENTUM)
            w = self.mix(w, w.roll(1, 0), self._crossovers(w))
        elif self.psi != 1:
            w = self.truncate(w, self.psi)
        return self.synthesise(w, pixels)

    def split(self, eps: Tensor) -> tuple[Tensor, Tensor]:
        """ε as z (n, latent) and the noise of the pixels (n, m). ValueError for another shape."""
        lengths = list(self.noise_blocks.values())
        if eps.ndim != 2 or eps.shape[1] != sum(lengths):
            raise ValueError(f"eps must have shape (n, {' + '.join(map(str, lengths))}); got {tuple(eps.shape)}")
        return eps.split(lengths, 1)

    def style(self, z: Tensor) -> Tensor:
        """z (n, latent) -> w (n, style)."""
        latent = self.noise_blocks["z"]
        if z.ndim != 2 or z.shape[1] != latent:
            raise ValueError(f"z must have shape (n, {latent}); got {tuple(z.shape)}")
        return self.mapping(z)

    def synthesise(self, w: Tensor, pixels: Tensor) -> Tensor:
        """The images (n, c, h, w) of styles w, (n, style) or one for each layer (n, layers, style), and noise (n, m).

        Raises ValueError for other shapes.
        """
        n, style, m = len(w), len(self.mean_style), self.noise_blocks["pixels"]
        if w.shape not in ((n, style), (n, self.layers, style)):
            raise ValueError(f"w must have shape (n, {style}) or (n, {self.layers}, {style}); got {tuple(w.shape)}")
        if pixels.shape != (n, m):
            raise ValueError(f"pixels must have shape ({n}, {m}); got {tuple(pixels.shape)}")
        styles = w.unbind(1) if w.ndim == 3 else [w] * self.layers
        noises = pixels.split([h * w for h, w in self.sizes], 1)
        x = self.constant
        for layer, w_k, noise, size in zip(self.synthesis, styles, noises, self.sizes, strict=True):
            x = layer(x, w_k, noise.unflatten(1, (1, *size)))
        return self.to_image(x).tanh()

    def mix(self, coarse: Tensor, fine: Tensor, crossover: int | Tensor) -> Tensor:
        """Styles by layer, (n, layers, style): the first `crossover` from `coarse`, the others from `fine`, both (n, style).

        `crossover` is one number for all or one for each row, (n,), from 0 to `layers`; else ValueError.
        """
        if coarse.shape != fine.shape:
            raise ValueError(f"coarse and fine must have one shape; got {tuple(coarse.shape)} and {tuple(fine.shape)}")
        crossover = torch.as_tensor(crossover, device=coarse.device)
        if crossover.shape not in ((), (len(coarse),)) or not ((0 <= crossover) & (crossover <= self.layers)).all():
            wanted = f"one number in 0 … {self.layers}, or one for each of {len(coarse)} rows"
            raise ValueError(f"crossover must be {wanted}; got {crossover.tolist()}")
        first = torch.arange(self.layers, device=coarse.device) < crossover[..., None]
        return torch.where(first[..., None], coarse[:, None], fine[:, None])

    def truncate(self, w: Tensor, psi: float) -> Tensor:
        """w̄ + ψ (w − w̄) for w (..., style): 0 is the mean style, 1 no truncation."""
        return self.mean_style.lerp(w, psi)

    def _crossovers(self, w: Tensor) -> Tensor:
        """Where each row of w changes its style in training, (n,): between two layers, or nowhere."""
        n = len(w)
        between = torch.randint(1, self.layers, (n,), device=w.device)
        return torch.where(torch.rand(n, device=w.device) < self.mixing, between, self.layers)
