"""Two estimators of one gradient: both unbiased, one far noisier (thesis (2.15))."""

import pytest
import torch
from problems.linear_vae import SIGMA, W, X, solved_vae

from gmcourse.vae import elbo_gradients


def exact(vae):
    """∇_μ of the ELBO in closed form: Wᵀ(x − Wμ)/σ² − μ, for a linear decoder; divided by n for the batch's mean."""
    mu = vae.encoder(X).mean
    return ((X - mu @ W.T) @ W / SIGMA**2 - mu).detach() / len(X)


@pytest.mark.parametrize("kind", ["reparameterised", "score_function"])
def test_both_estimators_are_unbiased(kind):
    torch.manual_seed(0)
    vae = solved_vae(shift=0.3, widen=1.2)
    draws = elbo_gradients(vae, X, kind, draws=4000)
    error = (draws.mean(0) - exact(vae)).abs() / (draws.std(0) / 4000**0.5)
    assert error.max() < 5 and (error.square().mean().sqrt() < 1.3), "z-scores must look standard normal"


def test_the_score_function_estimator_scatters_more():
    torch.manual_seed(0)
    vae = solved_vae(shift=0.3)
    variances = [elbo_gradients(vae, X, kind, draws=1000).var(0).mean() for kind in ("reparameterised", "score_function")]
    assert variances[1] > 5 * variances[0]


def test_unknown_kind_is_named():
    with pytest.raises(ValueError, match="kind must be 'reparameterised' or 'score_function'; got 'magic'"):
        elbo_gradients(solved_vae(), X, "magic")
