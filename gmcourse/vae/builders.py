"""Ready-made VAEs: keyword arguments, sensible defaults."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.model import StandardNormal
from gmcourse.nets.conv import ConvDecoder, ConvEncoder, unfold
from gmcourse.nets.mlp import MLP
from gmcourse.nets.resnet import ConvCell, DenseCell
from gmcourse.vae.hierarchical import Group, HierarchicalVAE
from gmcourse.vae.likelihoods import Gaussian
from gmcourse.vae.posterior import GaussianEncoder
from gmcourse.vae.vae import VAE


def mlp_vae(
    event_shape: Sequence[int] = (2,),
    *,
    latent: int = 2,
    hidden: Sequence[int] = (128, 128),
    likelihood: nn.Module | None = None,
    prior: nn.Module | None = None,
    input_scale: float = 1.0,
    **options,
) -> VAE:
    """VAE with fully connected nets. `input_scale` sharpens the first layer of both (see `nets.MLP`).

    The likelihood is a Gaussian with one learned σ, the prior N(0, I), unless given; `options` go to `VAE`.

    >>> mlp_vae().sample(3).shape
    torch.Size([3, 2])
    """
    likelihood = likelihood or Gaussian(0.5, "global")
    encoder = GaussianEncoder(MLP(event_shape, 2 * latent, hidden, input_scale=input_scale))
    decoder = MLP(latent, likelihood.outputs(event_shape), hidden, input_scale=input_scale)
    return VAE(event_shape, encoder, decoder, prior=prior or StandardNormal(latent), likelihood=likelihood, **options)


def conv_vae(
    event_shape: Sequence[int] = (1, 28, 28),
    *,
    latent: int = 16,
    width: int = 32,
    levels: int = 2,
    likelihood: nn.Module | None = None,
    prior: nn.Module | None = None,
    **options,
) -> VAE:
    """VAE with convolutional nets for images whose sides are divisible by 2**levels; otherwise as `mlp_vae`."""
    likelihood = likelihood or Gaussian(0.3, "global")
    encoder = GaussianEncoder(ConvEncoder(event_shape, 2 * latent, width=width, levels=levels))
    decoder = ConvDecoder(latent, likelihood.outputs(event_shape), width=width, levels=levels)
    return VAE(event_shape, encoder, decoder, prior=prior or StandardNormal(latent), likelihood=likelihood, **options)


class DenseFeatures(nn.Module):
    """x -> one feature vector per group: an MLP, then a residual cell between one group and the next above."""

    def __init__(self, event_shape: Sequence[int], width: int, groups: int, input_scale: float):
        super().__init__()
        self.stem = MLP(event_shape, width, (width,), input_scale=input_scale)
        self.cells = nn.ModuleList(DenseCell(width) for _ in range(groups))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, *event_shape) -> [(n, width)] from the top group to the bottom one."""
        h, levels = self.stem(x), []
        for cell in self.cells:
            h = cell(h)
            levels.insert(0, h)
        return levels


def mlp_hierarchy(
    event_shape: Sequence[int] = (2,),
    *,
    latents: Sequence[int] = (2, 2),
    width: int = 128,
    likelihood: nn.Module | None = None,
    input_scale: float = 1.0,
    inference: str = "top_down",
    **options,
) -> HierarchicalVAE:
    """Hierarchical VAE on vectors: one group per entry of `latents`, from the top down, with residual dense cells."""
    if not latents:
        raise ValueError("latents must name at least one group; got none")
    likelihood = likelihood or Gaussian(0.5, "global")
    groups = []
    for i, d in enumerate(latents):
        below = latents[i + 1] if i + 1 < len(latents) else 0
        seen = 2 * width if inference == "top_down" else width + below
        posterior = nn.Sequential(nn.Linear(seen, width), DenseCell(width), nn.Linear(width, 2 * d))
        prior = nn.Sequential(DenseCell(width), nn.Linear(width, 2 * d)) if i else None
        groups.append(Group((d,), prior, posterior, _scaled(nn.Linear(d, width), input_scale), DenseCell(width)))
    return HierarchicalVAE(
        event_shape,
        DenseFeatures(event_shape, width, len(latents), input_scale),
        groups,
        MLP(width, likelihood.outputs(event_shape), (width,)),
        state_shape=(width,),
        likelihood=likelihood,
        inference=inference,
        **options,
    )


class ConvFeatures(nn.Module):
    """Image -> one feature map per group, at the resolution its group works at (image size / factor)."""

    def __init__(self, channels: int, width: int, factors: Sequence[int]):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 4, stride=2, padding=1)
        self.steps = nn.ModuleList()
        for factor, finer in zip(reversed(factors), [2, *reversed(factors)], strict=False):
            self.steps.append(nn.Sequential(*_downs(width, factor // finer), ConvCell(width)))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, c, h, w) -> [(n, width, h/factor, w/factor)] from the top group to the bottom one."""
        h, levels = self.stem(x), []
        for step in self.steps:
            h = step(h)
            levels.insert(0, h)
        return levels


def conv_hierarchy(
    event_shape: Sequence[int] = (1, 28, 28),
    *,
    latents: Sequence[tuple[int, int]] = ((4, 4), (4, 4), (1, 2)),
    width: int = 32,
    likelihood: nn.Module | None = None,
    inference: str = "top_down",
    **options,
) -> HierarchicalVAE:
    """Hierarchical VAE on images. `latents` lists (channels, factor) from the top down: z is a map of image size / factor.

    Factors are powers of two, at least 2, that fall or stay; the path doubles its resolution where they fall, and once more
    at its end.
    """
    channels, h, w = event_shape
    factors = [factor for _, factor in latents]
    powers = bool(factors) and all(f >= 2 and f & (f - 1) == 0 for f in factors)
    if not powers or factors != sorted(factors, reverse=True) or h % factors[0] or w % factors[0]:
        wanted = f"powers of two, at least 2, that never rise from group to group and divide {h} × {w}"
        raise ValueError(f"latents: the factors must be {wanted}; got {factors}")
    likelihood = likelihood or Gaussian(0.3, "global")
    groups = []
    for i, (c, factor) in enumerate(latents):
        below = latents[i + 1][0] if i + 1 < len(latents) else 0
        seen = 2 * width if inference == "top_down" else width + below
        posterior = nn.Sequential(nn.Conv2d(seen, width, 1), ConvCell(width), nn.Conv2d(width, 2 * c, 1))
        prior = nn.Sequential(ConvCell(width), nn.Conv2d(width, 2 * c, 1)) if i else None
        ups = _ups(width, factor // (factors[i + 1] if i + 1 < len(factors) else 2))
        cell = nn.Sequential(ConvCell(width), *ups)
        groups.append(Group((c, h // factor, w // factor), prior, posterior, nn.Conv2d(c, width, 1), cell))
    head = nn.Sequential(ConvCell(width), nn.SiLU(), *unfold(width, likelihood.outputs(event_shape)[0]))
    return HierarchicalVAE(
        event_shape,
        ConvFeatures(channels, width, factors),
        groups,
        head,
        state_shape=(width, h // factors[0], w // factors[0]),
        likelihood=likelihood,
        inference=inference,
        **options,
    )


def _scaled(layer: nn.Linear, factor: float) -> nn.Linear:
    with torch.no_grad():
        layer.weight.mul_(factor)
    return layer


def _downs(width: int, factor: int) -> list[nn.Module]:
    """Strided convolutions that divide the resolution by a power of two."""
    return [nn.Conv2d(width, width, 3, stride=2, padding=1) for _ in range(factor.bit_length() - 1)]


def _ups(width: int, factor: int) -> list[nn.Module]:
    """Doublings with a cell each that multiply the resolution by a power of two."""
    return [m for _ in range(factor.bit_length() - 1) for m in (nn.Upsample(scale_factor=2), ConvCell(width))]
