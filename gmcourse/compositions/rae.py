r"""Regularised auto-encoder: keep the codes small, fit their law afterwards (Ghosh et al. 2019; thesis 3.2, 3.4.4).

    L(x) = β L_recon(x, G(E(x))) + γ ½‖E(x)‖²

It is a VAE's bound without the noise: of KL(q(z|x) ‖ N(0, I)) only ½‖μ‖² remains. What generates is not N(0, I) but a
density fitted to the codes of the finished auto-encoder, a mixture of 10 Gaussians (`fit_mixture`).

The thesis speaks of "a penalty on the norm", γ = 0.5, chosen among 0.1, 0.5, 1, 2; we read it as Ghosh's ½‖z‖², summed over
the d coordinates, beside β L_recon in nats. A decoder that scales its input up pays nothing for small codes: Ghosh et al.
hold its weights or its slope, too, the thesis does not; and a decoder that begins with a linear layer and batch norm does
not see the scale of z at all: there the codes shrink, slowly, for as long as training lasts.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from gmcourse.compositions.autoencoder import Autoencoder
from gmcourse.model import GenerativeModel


class RegularisedAutoencoder(Autoencoder):
    """Auto-encoder with a penalty on the norm of its codes.

    Args:
        event_shape, encoder, decoder, and among the options beta, distortion: as of `Autoencoder`.
        prior: to be fitted afterwards, e.g. `MixtureModel(10, d)` by `fit_mixture`; no part of the loss. Until then samples
            are decoded from what it happens to be.
        penalty: γ ≥ 0. With 0 it is the plain auto-encoder; with one Gaussian fitted to its codes, the floor.

    Raises ValueError for γ < 0.

    >>> import torch
    >>> from gmcourse.mixture import MixtureModel
    >>> model = RegularisedAutoencoder((4,), nn.Linear(4, 2), nn.Linear(2, 4), MixtureModel(10, 2))
    >>> model.latent_term(torch.tensor([[3.0, 4.0]]))
    tensor([6.2500])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        prior: GenerativeModel,
        *,
        penalty: float = 0.5,
        **options,
    ):
        if not 0 <= penalty < math.inf:
            raise ValueError(f"penalty must be at least 0; got {penalty}")
        super().__init__(event_shape, encoder, decoder, prior, **options)
        self.penalty = float(penalty)

    def latent_term(self, z: Tensor) -> Tensor:
        """γ ½‖z‖², (n, d) -> (n,)."""
        return self.penalty / 2 * z.square().sum(1)
