r"""A net that a latent tells how to draw: z through a mapping network into every normalisation (thesis 6.3.2, (6.13)).

G(x_t, t, z) = tanh(net(x_t, t, w)),   w = f(z)
"""

import torch
from torch import Tensor, nn

from gmcourse.nets.style import MappingNetwork


class Styled(nn.Module):
    """x (n, *event_shape), t (n,), z (n, latent) -> like x.

    Args:
        net: x, t, w (n, style) -> like x, such as `UNet(image, context=style)`.
        latent, style: lengths of z and w.
        layers: of the mapping network f.
        bounded: whether a tanh brings what is said to [−1, 1], the range of images.

    >>> from gmcourse.nets.unet import UNet
    >>> net = Styled(UNet((1, 8, 8), width=4, multipliers=(1,), attention=(), context=16), latent=8, style=16)
    >>> net(torch.zeros(2, 1, 8, 8), torch.tensor(0), torch.zeros(2, 8)).shape
    torch.Size([2, 1, 8, 8])
    """

    def __init__(self, net: nn.Module, latent: int, style: int, *, layers: int = 3, bounded: bool = True):
        super().__init__()
        self.net, self.latent, self.bounded = net, latent, bounded
        self.mapping = MappingNetwork(latent, style, layers)

    def forward(self, x: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """ValueError for a z of another length."""
        if z.shape != (len(x), self.latent):
            raise ValueError(f"z must have shape ({len(x)}, {self.latent}); got {tuple(z.shape)}")
        said = self.net(x, t, self.mapping(z))
        return torch.tanh(said) if self.bounded else said
