r"""Generative latent flow: an auto-encoder, and a flow that learns the law of its codes (thesis 3.3.2).

    L^GLF(x) = β L_recon(x, G(E(x))) − log p_η(sg[E(x)])                                              thesis (3.7)
    −log p_η(z) = −log p₀(f_η(z)) − log|det ∂f_η/∂z|                                                  thesis (3.6)

Without sg, the stopped gradient, it is the regularised GLF (3.5): the flow's likelihood reaches the encoder, which then need
only shrink its codes, z → z/s, to gain d log s nats, for as long as the flow can follow (couplings with bounded log-scales
come to an end, far away). Nothing in (3.5) holds against that: the reconstruction is the same when the decoder scales up. A
VAE with flow prior has the entropy of q(z|x), which loses the same d log s. With sg the two terms have no parameter in
common, and β only matters to a step size or to a clip of the gradient that they share.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from gmcourse.compositions.autoencoder import Autoencoder
from gmcourse.model import GenerativeModel


class GenerativeLatentFlow(Autoencoder):
    """Auto-encoder with a prior that is trained on its codes, thesis (3.7).

    Args:
        event_shape, encoder, decoder: as of `Autoencoder`.
        flow: p_η(z), a `Flow` or any model with `log_prob` and `sample`, on (d,).
        beta: weight of the reconstruction.
        stop_gradient: keep the likelihood of the codes from moving the encoder; False is the regularised GLF (3.5).
        distortion: L_recon; the squared error unless given, or e.g. a `PerceptualLoss`.

    Raises ValueError for β ≤ 0 and for a flow on other than d dimensions.

    >>> import torch
    >>> from gmcourse.flows import real_nvp
    >>> GenerativeLatentFlow((4,), nn.Linear(4, 2), nn.Linear(2, 4), real_nvp((2,))).sample(3).shape
    torch.Size([3, 4])
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        encoder: nn.Module,
        decoder: nn.Module,
        flow: GenerativeModel,
        *,
        beta: float = 1.0,
        stop_gradient: bool = True,
        distortion: nn.Module | None = None,
    ):
        super().__init__(event_shape, encoder, decoder, flow, beta=beta, distortion=distortion)
        self.stop_gradient = stop_gradient

    def latent_term(self, z: Tensor) -> Tensor:
        """−log p_η(sg[z]) in nats, (n,): thesis (3.6)."""
        return -self.prior.log_prob(z.detach() if self.stop_gradient else z)
