"""Layers that cannot stretch anything: weights divided by their largest singular value (Miyato et al. 2018)."""

from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm

from gmcourse.model import check_count

Kinds = type[nn.Module] | tuple[type[nn.Module], ...]
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def spectrally_normalised(net: nn.Module, kinds: Kinds = LAYERS, *, power_iterations: int = 1) -> nn.Module:
    """The net itself, its layers of these kinds now divided by the σ_max of their W.

    So a linear layer has norm 1 as a map; a convolution, whose W (out, in·kh·kw) acts on patches, up to √(kh·kw). σ_max is
    PyTorch's: from `power_iterations` rounds per call in training mode, none in evaluation mode. Raises ValueError where
    there is no such layer, or one has a parametrization.
    """
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    layers = {name: part for name, part in net.named_modules() if isinstance(part, kinds)}
    if not layers:
        raise ValueError(f"net must have layers of kind {', '.join(k.__name__ for k in kinds)}; got none")
    if found := [name for name, layer in layers.items() if parametrize.is_parametrized(layer, "weight")]:
        raise ValueError(f"net must have plain weights to be normalised; {found[0] or 'it'} has a parametrization")
    for layer in layers.values():
        spectral_norm(layer, n_power_iterations=check_count(power_iterations, "power_iterations"))
    return net


def is_spectrally_normalised(net: nn.Module) -> bool:
    """Whether any layer of the net is divided by its σ_max."""
    kinds = (kind for part in net.modules() if parametrize.is_parametrized(part) for kind in part.parametrizations.values())
    return any(isinstance(step, _SpectralNorm) for steps in kinds for step in steps)
