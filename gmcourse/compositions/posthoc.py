r"""A prior fitted when the auto-encoder is finished: the codes of the data are data, too (Ghosh et al. 2019; thesis 3.2).

    z_i = E(x_i)        p(z) = N(z; m, S)        or        p(z) = Σ_k π_k N(z; m_k, S_k)        max Σ_i log p(z_i)

One Gaussian is the floor of the chapter: whatever is more than a mean and a covariance, it cannot know. The mixture is
scikit-learn's, by EM. Of a VAE a code is one draw z ~ q(z|x), so that p is fitted to the aggregated posterior.

Codes live on a scale of their own (nothing fixes it, see `rae`), so the least variance allowed in any direction is a
millionth of that of all codes, Σ_j Var z_j, and not a number.
"""

import torch
from torch import Tensor

from gmcourse.mixture import MixtureModel
from gmcourse.model import GenerativeModel, check_count, evaluating

FLOOR = 1e-6  # least variance in any direction, of the sum over all coordinates


@torch.no_grad()
def codes(model: GenerativeModel, x: Tensor, batch: int = 500) -> Tensor:
    """z = E(x), (n, *event_shape) -> (n, d), `batch` rows at a time, in evaluation mode; of a VAE, draws z ~ q(z|x)."""
    with evaluating(model):
        parts = [model.encoder(part) for part in model.check_data(x, "x").split(check_count(batch, "batch"))]
        return torch.cat([part if isinstance(part, Tensor) else part.rsample() for part in parts])


def fit_gaussian(model: GenerativeModel, x: Tensor) -> float:
    """Let `model.prior`, a MixtureModel(1, d), be the Gaussian of the codes of x; returns their mean log p(z) in nats.

    Raises ValueError for a prior of another kind or size, and for codes that don't vary.
    """
    z = _checked(model, x, 1)
    mean, rest = z.mean(0), z - z.mean(0)
    covariance = rest.mT @ rest / len(z) + _least(z) * torch.eye(z.shape[1], dtype=z.dtype)
    return _write(model, z, z.new_ones(1), mean[None], covariance[None])


def fit_mixture(model: GenerativeModel, x: Tensor, components: int = 10, seed: int = 0) -> float:
    """Fit `model.prior`, a MixtureModel(components, d), to the codes of x; returns their mean log p(z) in nats.

    scikit-learn's `GaussianMixture` with full covariances, from one k-means start. Raises ValueError for a prior of another
    kind or size, for fewer data than components, and for codes that don't vary.
    """
    from sklearn.mixture import GaussianMixture

    z = _checked(model, x, check_count(components, "components"))
    found = GaussianMixture(components, reg_covar=_least(z), max_iter=500, random_state=seed).fit(z.numpy())
    return _write(model, z, *(torch.from_numpy(v) for v in (found.weights_, found.means_, found.covariances_)))


def _checked(model: GenerativeModel, x: Tensor, components: int) -> Tensor:
    """The codes of x (n, d) in float64 on the CPU, if `model.prior` is a mixture of that many components on (d,)."""
    prior = model.prior
    if not isinstance(prior, MixtureModel) or len(prior.weights) != components:
        came = f"{len(prior.weights)} components" if isinstance(prior, MixtureModel) else f"a {type(prior).__name__}"
        raise ValueError(f"model.prior must be a MixtureModel with components={components}; got {came}")
    if len(x) < components:
        raise ValueError(f"x must hold at least as many data as there are components, {components}; got {len(x)}")
    z = prior.check_data(codes(model, x), "the codes z")
    return z.cpu().double()


def _least(z: Tensor) -> float:
    spread = float(z.var(0, correction=0).sum())
    if not spread > 0:
        raise ValueError(f"x must have codes that differ from one another; all {len(z)} are the same")
    return FLOOR * spread


def _write(model: GenerativeModel, z: Tensor, weights: Tensor, means: Tensor, covariances: Tensor) -> float:
    """Copy the parameters into the prior's buffers; the mean log-likelihood of z under them."""
    exact = MixtureModel.from_parameters(weights, means, covariances)
    model.prior.load_state_dict(exact.state_dict())
    return float(exact.log_prob(z).mean())
