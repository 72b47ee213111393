r"""Gaussian mixtures fitted by expectation-maximisation: maximum likelihood where no gradient is needed (thesis 1.2.1).

    p(x) = Σ_k π_k N(x; m_k, Σ_k),        z = the component that x came from

For any responsibilities r (rows that sum to 1) the average over the data of

    B(r, θ) = Σ_k r_k log p(x, z = k) + H(r) = log p(x) − KL(r ‖ p(z|x))

bounds the log-likelihood from below. EM climbs it by turns:

    E-step   r_k = p(z = k | x)                          the KL vanishes, the bound touches log p(x)
    M-step   N_k = Σ_i r_ik,  π_k = N_k / n,  m_k = Σ_i r_ik x_i / N_k,  Σ_k = Σ_i r_ik (x_i − m_k)(x_i − m_k)ᵀ / N_k

so the likelihood never falls. A VAE climbs the same bound (thesis 2.1) with a net for r and gradients for θ. The likelihood
has no maximum: a component that sits on a single point grows without limit as it narrows. `floor` ends that: no Σ_k is
narrower than √floor (in units of x) in any direction. Under that constraint the M-step below still is the exact maximum,
from a start that obeys it, and as far as the precision reaches: float32 knows no width below 10⁻³ of the largest.
"""

import warnings

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from gmcourse.metrics.neighbours import distances
from gmcourse.model import GenerativeModel, Likelihood, check_count


class MixtureModel(GenerativeModel):
    """Mixture of Gaussians with full covariances in d dimensions; `fit_em` trains it, `from_data` starts it well.

    The parameters are the buffers `weights` (k,), `means` (k, d) and `covariances` (k, d, d): no gradient moves them. A new
    one has equal weights, random means and unit covariances.

    >>> MixtureModel(components=3, dims=2).sample(5).shape
    torch.Size([5, 2])
    """

    likelihood = Likelihood.EXACT
    nfe = 0

    def __init__(self, components: int, dims: int):
        super().__init__((check_count(dims, "dims"),))
        k = check_count(components, "components")
        self.register_buffer("weights", torch.full((k,), 1 / k))
        self.register_buffer("means", torch.randn(k, dims))
        self.register_buffer("covariances", torch.eye(dims).repeat(k, 1, 1))

    @classmethod
    def from_parameters(cls, weights: Tensor, means: Tensor, covariances: Tensor) -> "MixtureModel":
        """The mixture with weights (k,), means (k, d), covariances (k, d, d), with the means' device and dtype.

        Raises ValueError for shapes that don't match, weights that are no probabilities, or covariances that are not
        positive definite.
        """
        means = torch.as_tensor(means)
        weights, covariances = torch.as_tensor(weights).to(means), torch.as_tensor(covariances).to(means)
        if means.ndim != 2 or means.numel() == 0 or not means.is_floating_point():
            raise ValueError(f"means must be floating-point numbers, shape (k, d); got {means.dtype} {tuple(means.shape)}")
        k, d = means.shape
        for name, value, shape in (("weights", weights, (k,)), ("covariances", covariances, (k, d, d))):
            if tuple(value.shape) != shape:
                raise ValueError(f"{name} must have shape {shape} beside means {(k, d)}; got {tuple(value.shape)}")
        if not ((weights >= 0).all() and abs(weights.sum() - 1) < 1e-4):
            raise ValueError(f"weights must be probabilities that sum to 1; got {weights.tolist()}")
        lopsided = (covariances - covariances.mT).abs().max() > 1e-5 * covariances.abs().max()
        if lopsided or torch.linalg.cholesky_ex(covariances).info.any():
            raise ValueError("covariances must be symmetric and positive definite")
        model = cls(k, d)
        model.weights, model.means, model.covariances = weights / weights.sum(), means.clone(), covariances.clone()
        return model

    @classmethod
    def from_data(
        cls, x: Tensor, components: int, *, floor: float = 1e-6, generator: torch.Generator | None = None
    ) -> "MixtureModel":
        """A start for EM on x (n, d): k-means++ means, equal weights, and the spread around the nearest mean for all.

        A first mean is a random point, each next one a point drawn with probability proportional to its squared distance
        from the means so far. Raises ValueError where x has fewer different points than there are components.
        """
        _check_points(x, components)
        means = x[torch.randint(len(x), (1,), generator=generator, device=x.device)]
        for _ in range(1, components):
            nearest = distances(x, means).amin(1).square()
            if not nearest.any():
                raise ValueError(f"x must hold at least {components} different points; got {len(means)}")
            means = torch.cat([means, x[torch.multinomial(nearest, 1, generator=generator)]])
        rest = x - means[distances(x, means).argmin(1)]
        spread = _floored(rest.mT @ rest / len(x), floor).repeat(components, 1, 1)
        return cls.from_parameters(means.new_full((components,), 1 / components), means, spread)

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z = k) = log π_k + log N(x; m_k, Σ_k) in nats, (n, d) -> (n, k)."""
        gaussians = MultivariateNormal(self.means, self.covariances, validate_args=False)
        return self.weights.log() + gaussians.log_prob(self.check_batch(x)[:, None])

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) in nats, (n, d) -> (n,)."""
        return self.log_joint(x).logsumexp(1)

    def responsibilities(self, x: Tensor) -> Tensor:
        """The E-step: p(z = k | x), (n, d) -> (n, k), rows sum to 1."""
        return self.log_joint(x).softmax(1)

    @torch.no_grad()
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw x, shape (n, d)."""
        z = torch.multinomial(self.weights, check_count(n), replacement=True, generator=generator)
        eps = torch.randn(n, *self.event_shape, generator=generator, device=self.means.device, dtype=self.means.dtype)
        return self.means[z] + torch.einsum("nij,nj->ni", torch.linalg.cholesky(self.covariances)[z], eps)

    def players(self):
        """None: there is nothing for gradients to move."""
        raise NotImplementedError("MixtureModel has no gradients to follow; train it with gmcourse.mixture.fit_em")


def em_bound(model: MixtureModel, x: Tensor, r: Tensor) -> Tensor:
    """B(r, θ) = E_r[log p(x, z)] + H(r) ≤ log p(x) in nats, x (n, d), r (n, k) responsibilities, shape (n,)."""
    expected = torch.where(r > 0, r * model.log_joint(x), 0.0)
    return (expected + torch.special.entr(r)).sum(1)


def m_step(x: Tensor, r: Tensor, *, floor: float = 0.0) -> tuple[Tensor, Tensor, Tensor]:
    """The weights (k,), means (k, d) and covariances (k, d, d) that maximise Σ_i B(r_i, θ) for data x (n, d) and r (n, k).

    `floor` is the smallest variance allowed in any direction. A component without any responsibility gets weight 0 and NaN.
    """
    mass = r.sum(0)
    means = r.mT @ x / mass[:, None]
    centred = x[:, None] - means
    covariances = torch.einsum("nk,nki,nkj->kij", r, centred, centred) / mass[:, None, None]
    return mass / len(x), means, _floored(covariances, floor)


@torch.no_grad()
def em_step(model: MixtureModel, x: Tensor, *, floor: float = 1e-6) -> Tensor:
    """One E-step and one M-step on x (n, d), in place; returns the average log-likelihood before, which came on the way.

    A component that has lost all its data gets weight 0 and stays where it was; it does not come back.
    """
    if x.dtype != model.means.dtype:
        raise ValueError(f"x must have the model's dtype, {model.means.dtype}; got {x.dtype}")
    log_joint = model.log_joint(x)
    r = log_joint.softmax(1)
    alive = r.sum(0) > torch.finfo(r.dtype).tiny
    weights, means, covariances = m_step(x, r[:, alive], floor=floor)
    model.weights.zero_()
    model.weights[alive], model.means[alive], model.covariances[alive] = weights, means, covariances
    return log_joint.logsumexp(1).mean()


@torch.no_grad()
def fit_em(model: MixtureModel, x: Tensor, *, steps: int = 100, tol: float = 1e-6, floor: float = 1e-6) -> Tensor:
    """Fit `model` to x (n, d) by EM; returns the average log-likelihoods in nats, at the start and after each step taken.

    Ends after `steps` steps, or one step after a step that gained less than `tol`. Warns if a component has died.

    >>> x = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    >>> model = MixtureModel.from_data(x, 1)
    >>> len(fit_em(model, x))     # a single Gaussian is solved by one step; the second gains nothing, the third is the last
    4
    """
    model.check_data(_check_points(x, len(model.weights)), "x")
    history = []
    for _ in range(check_count(steps, "steps")):
        history.append(em_step(model, x, floor=floor))
        if len(history) > 1 and history[-1] - history[-2] < tol:
            break
    history.append(model.log_prob(x).mean())
    if dead := (model.weights == 0).nonzero().flatten().tolist():
        warnings.warn(f"components {dead} have lost all their data and have weight 0: try another start", stacklevel=2)
    return torch.stack(history)


def _floored(covariances: Tensor, floor: float) -> Tensor:
    """The covariances (..., d, d) with eigenvalues raised to `floor` where they are below."""
    values, vectors = torch.linalg.eigh(covariances)
    rounding = 4 * covariances.shape[-1] * torch.finfo(values.dtype).eps * values[..., -1:]  # below it eigenvalues are noise
    least = rounding.clamp(min=floor)
    if (values >= least).all():
        return covariances
    raised = vectors * values.maximum(least).unsqueeze(-2) @ vectors.mT
    return (raised + raised.mT) / 2


def _check_points(x: Tensor, components: int) -> Tensor:
    """Return x if it is a matrix (n, d) of floating-point numbers with at least as many rows as components."""
    if x.ndim != 2 or not x.is_floating_point():
        raise ValueError(f"x must hold floating-point numbers, shape (n, d); got {x.dtype}, shape {tuple(x.shape)}")
    if len(x) < check_count(components, "components"):
        raise ValueError(f"x must hold at least as many points as there are components, {components}; got {len(x)}")
    return x
