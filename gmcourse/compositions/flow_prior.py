r"""A VAE whose prior is a flow, and the weight β of its reconstruction (thesis 3.3.1).

    L(x) = E_q[β log N(x; G(z), σ²I) + log p₀(f_η(z)) + log|det ∂f_η/∂z| − log q_φ(z|x)]               thesis (3.4)

β log N(x; G, σ²I) and log N(x; G, σ²I/β) differ by a constant: a larger β *is* a smaller observational noise. So the VAE
below observes with standard deviation σ/√β, its loss has the gradients of (3.4), and its bound is one at every β.

As β grows the posterior narrows (for a linear decoder W and p = N(0, I) its precision is I + βWᵀW/σ²), and −log q is, up to
a constant, Σ_j log σ_j(x): what keeps z from shrinking. In the limit q is a point, and the flow sees codes only:
`GenerativeLatentFlow`.
"""

from collections.abc import Sequence

from torch import nn

from gmcourse.compositions.autoencoder import check_decoder, check_latent
from gmcourse.model import GenerativeModel, check_positive
from gmcourse.vae import VAE, Gaussian


def flow_prior_vae(
    event_shape: Sequence[int],
    encoder: nn.Module,
    decoder: nn.Module,
    flow: GenerativeModel,
    *,
    beta: float = 1.0,
    learned: bool = False,
    sigma: float = 1.0,
) -> VAE:
    """A VAE with prior p_η(z), thesis (3.2)–(3.4).

    Args:
        encoder: x -> q(z|x), e.g. a `GaussianEncoder`.
        decoder: z (n, d) -> the mean of x, (n, *event_shape).
        flow: p_η, a `Flow` or any model on (d,) with `log_prob` and `sample`.
        beta: weight of the reconstruction: the noise of x has standard deviation σ/√β.
        learned: learn that standard deviation, and so β, from there (Dai & Wipf 2019).
        sigma: the unit of x in which β = 1 means standard deviation 1; 2 for pixels in [−1, 1] where the source has [0, 1].

    Its samples are E[x|z]. Raises ValueError for β or σ ≤ 0, for a flow on other than d dimensions, and for a decoder of
    another shape.
    """
    d = check_latent(event_shape, encoder, flow)
    check_decoder(event_shape, decoder, d)
    noise = check_positive(sigma, "sigma") / check_positive(beta, "beta") ** 0.5
    likelihood = Gaussian(noise, "global" if learned else None)
    return VAE(event_shape, encoder, decoder, prior=flow, likelihood=likelihood, show_mean=True)
