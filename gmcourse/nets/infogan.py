r"""The encoder and the decoder of thesis Table 3.6, after InfoGAN's (Chen et al. 2016): two 4×4 convolutions of stride 2,
two fully connected layers, and the same the other way round.

    encoder   x -> conv w -> conv 2w -> flatten, FC hidden -> FC out
    decoder   z -> FC hidden -> FC (2w, h/4, w/4) -> deconv w -> deconv c -> tanh

Each hidden layer but the encoder's first is normalised over the batch, and followed by a ReLU. The thesis has w = 64,
hidden = 1024 and pixels in [0, 1] from a sigmoid; ours are in [−1, 1], and tanh(h/2) = 2 sigmoid(h) − 1. (Source has 64 and
then 128 channels in the last two layers of the decoder: an image has c.)
"""

from collections.abc import Sequence

from torch import Tensor, nn

from gmcourse.nets.conv import pyramid


class InfoEncoder(nn.Module):
    """Image -> vector.

    Args:
        image: shape (c, h, w), h and w divisible by 4.
        outputs: length of the vector.
        width: channels at half the size; twice as many at a quarter of it.
        hidden: width of the fully connected layer.

    >>> import torch
    >>> InfoEncoder((1, 28, 28), 20)(torch.zeros(5, 1, 28, 28)).shape
    torch.Size([5, 20])
    """

    def __init__(self, image: Sequence[int], outputs: int, *, width: int = 16, hidden: int = 256):
        super().__init__()
        (first, last), (h, w) = pyramid(image, width, 2)
        self.layers = nn.Sequential(
            nn.Conv2d(image[0], first, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, last, 4, stride=2, padding=1),
            nn.BatchNorm2d(last),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(last * h * w, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, c, h, w) -> (n, outputs)."""
        return self.layers(x)


class InfoDecoder(nn.Module):
    """Vector -> image in [−1, 1], the mirror of `InfoEncoder`.

    Args:
        inputs: length of the vector.
        image: shape (c, h, w), h and w divisible by 4.
        width: channels at half the size; twice as many at a quarter of it.
        hidden: width of the fully connected layer.

    >>> import torch
    >>> InfoDecoder(20, (1, 28, 28))(torch.zeros(5, 20)).shape
    torch.Size([5, 1, 28, 28])
    """

    def __init__(self, inputs: int, image: Sequence[int], *, width: int = 16, hidden: int = 256):
        super().__init__()
        (last, first), (h, w) = pyramid(image, width, 2)
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, first * h * w),
            nn.Unflatten(1, (first, h, w)),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.ConvTranspose2d(first, last, 4, stride=2, padding=1),
            nn.BatchNorm2d(last),
            nn.ReLU(),
            nn.ConvTranspose2d(last, image[0], 4, stride=2, padding=1),
            nn.Tanh(),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(n, inputs) -> (n, c, h, w)."""
        return self.layers(z)
