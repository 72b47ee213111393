"""StackedMNIST: three random digits as the red, green and blue plane of one image: 1000 equal modes.

The usual probe of mode coverage: classify each plane of a sample and count how many of the labels 000...999
occur (and the KL divergence of their frequencies from uniform). Built on the fly from the course's MNIST
digits.
"""

import numpy as np
import torch
from torch import Tensor

from gmcourse.data import shipped
from gmcourse.data.formats import scale


def stacked_mnist(n: int, seed: int = 0, split: str = "train") -> tuple[Tensor, Tensor]:
    """`n` images `(n, 3, 28, 28)` in [-1, 1] and labels 100 r + 10 g + b `(n,)`; the same for the same seed.

    The three digits of an image are drawn independently and uniformly, with replacement, from the split of
    `mnist`.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1; got {n}")
    content = shipped.arrays("mnist", split)
    generator = torch.Generator().manual_seed(seed)
    picks = torch.randint(len(content["images"]), (n, 3), generator=generator).numpy()
    images = content["images"][picks, 0]
    labels = content["labels"][picks].astype(np.int64) @ np.array([100, 10, 1])
    return scale(images), torch.from_numpy(labels)
