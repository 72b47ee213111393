r"""A VAE with flow posterior: q(z|x) is bent until it fits, the prior stays (Rezende & Mohamed 2015; thesis 3.2).

    (μ, log σ, h) = E_φ(x)        z₀ = μ + σ ⊙ ε        z = T(z₀; h)
    log q(z|x) = log N(z₀; μ, diag σ²) − log|det ∂T/∂z₀|

A Gaussian q leaves the gap KL(q(z|x) ‖ p(z|x)) of the bound open wherever the true posterior is bent or has several modes;
h steers the layers of T, so that each x gets a shape of its own. That mends q(z|x), for each x. The hole in the aggregated
q(z) is another matter, and stays (Rosca et al. 2018).

Training draws z and asks for its density, so T must be cheap from noise to z: planar (slides (7)), Sylvester (slides (9);
van den Berg et al. 2018) and IAF (Kingma et al. 2016) are. For other z the density takes T⁻¹: bisection, or d steps.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gmcourse.compositions.flow_prior import flow_prior_vae
from gmcourse.flows import Flow, iaf, planar_flow, sylvester_flow
from gmcourse.model import GenerativeModel, StandardNormal, check_count
from gmcourse.vae import VAE
from gmcourse.vae.posterior import at_least_single, diagonal_normal

DRAWS = 64  # behind a mean that has no closed form: its standard error is an eighth of q's standard deviation


class FlowPosterior(nn.Module):
    """Turns a net x -> (n, 2d + c) into x -> q(z|x), a Gaussian bent by a flow.

    Args:
        net: x (n, *event_shape) -> (n, 2d + c): μ, log σ (softly clamped, as in `GaussianEncoder`) and the context h.
        flow: bijections on (d,) with context c, e.g. `planar_flow((d,), cheap="sampling", context=c)` or `iaf`. Only its
            layers count: N(μ, diag σ²) takes the place of its base.

    Raises ValueError for a flow on other than vectors, or not of bijections, and for a net of another width.

    >>> FlowPosterior(nn.Linear(5, 4 + 3), iaf((2,), context=3))(torch.zeros(6, 5)).rsample().shape
    torch.Size([6, 2])
    """

    def __init__(self, net: nn.Module, flow: Flow):
        super().__init__()
        if len(flow.event_shape) != 1 or not flow.chain.bijective:
            raise ValueError(f"flow must consist of bijections on vectors (d,); got one on {tuple(flow.event_shape)}")
        self.net, self.chain, self.context, (self.d,) = net, flow.chain, flow.context, flow.event_shape

    def forward(self, x: Tensor) -> "BentNormal":
        """(n, *event_shape) -> distribution with batch shape (n,) and event shape (d,)."""
        out = self.net(x)
        if tuple(out.shape[1:]) != (2 * self.d + self.context,):
            wanted = f"2·{self.d} + {self.context} numbers, for μ, log σ and the context"
            raise ValueError(f"net must give {wanted}; got {tuple(out.shape[1:])}")
        mu, log_sigma, h = out.split([self.d, self.d, self.context], dim=1)
        return BentNormal(diagonal_normal(mu, log_sigma), self.chain, at_least_single(h) if self.context else None)


class BentNormal:
    """The law of z = T(z₀; h), z₀ ~ N(μ, diag σ²), with reparameterised draws; made by `FlowPosterior`.

    Args:
        start: the law of z₀, with batch shape (n,) and event shape (d,).
        chain: T⁻¹ by `forward` and T by `invert`, as in every flow.
        context: h, (n, c) or None.
    """

    def __init__(self, start: torch.distributions.Independent, chain: nn.Module, context: Tensor | None):
        self.start, self.chain, self.context = start, chain, context
        self.batch_shape, self.event_shape = start.batch_shape, start.event_shape
        self.drawn: tuple[Tensor, Tensor] | None = None  # the last draw and its log-density

    def rsample(self) -> Tensor:
        """Draw z, (n, d), differentiably. Its density comes in the same pass and is kept for `log_prob`."""
        start = self.start.rsample()
        z, contribution = self.chain.invert(start, self.context)
        self.drawn = z, self.start.log_prob(start) + contribution
        return z

    def log_prob(self, z: Tensor) -> Tensor:
        """log q(z|x) in nats, (n, d) -> (n,): known for the tensor last drawn, by T⁻¹ for all others."""
        if self.drawn is not None and z is self.drawn[0]:
            return self.drawn[1]
        start, contribution = self.chain(z, self.context)
        return self.start.log_prob(start) + contribution

    @property
    def mean(self) -> Tensor:
        """An estimate of E[z|x], (n, d): T(μ) is not it, so 64 draws are averaged and no two answers are the same."""
        return sum(self.chain.inverse(self.start.rsample(), self.context) for _ in range(DRAWS)) / DRAWS


def flow_posterior_vae(
    event_shape: Sequence[int],
    net: nn.Module,
    decoder: nn.Module,
    *,
    latent: int,
    kind: str = "planar",
    layers: int = 4,
    context: int = 16,
    prior: GenerativeModel | None = None,
    **noise,
) -> VAE:
    """A VAE with flow posterior, the one of thesis Table 3.1.

    Args:
        net: x -> (n, 2·latent + context), see `FlowPosterior`.
        decoder: z (n, latent) -> the mean of x, (n, *event_shape).
        kind: "planar", "sylvester" (its triangular kind, the cheapest with M = d) or "iaf".
        layers: how many of them.
        context: how many numbers steer the layers.
        prior: of z; N(0, I) unless given.
        noise: beta, learned, sigma, of the noise of x, as in `flow_prior_vae`; its standard deviation is σ/√β.

    Its samples are E[x|z]. Raises ValueError for an unknown kind, sizes that don't fit, β or σ ≤ 0.
    """
    shape, options = (check_count(latent, "latent"),), {"layers": layers, "context": context}
    if kind == "planar":
        flow = planar_flow(shape, cheap="sampling", **options)
    elif kind == "sylvester":
        flow = sylvester_flow(shape, kind="triangular", cheap="sampling", **options)
    elif kind == "iaf":
        flow = iaf(shape, **options)
    else:
        raise ValueError(f"kind must be 'planar', 'sylvester' or 'iaf'; got {kind!r}")
    prior = StandardNormal(latent) if prior is None else prior
    encoder = FlowPosterior(net, flow)
    return flow_prior_vae(event_shape, encoder, decoder, prior, **noise)
