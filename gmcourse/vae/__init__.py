"""Variational auto-encoders: the model, its bounds, likelihoods and priors, and the hierarchical version (thesis 2.1)."""

from gmcourse.vae.annealing import cyclical_beta, linear_beta
from gmcourse.vae.bounds import Elbo, elbo, iwae_bound
from gmcourse.vae.builders import conv_hierarchy, conv_vae, mlp_hierarchy, mlp_vae
from gmcourse.vae.diagnostics import active_units, aggregated_posterior
from gmcourse.vae.gradients import elbo_gradients
from gmcourse.vae.hierarchical import HierarchicalVAE
from gmcourse.vae.likelihoods import Bernoulli, Gaussian
from gmcourse.vae.posterior import GaussianEncoder, diagonal_normal, gaussian_kl
from gmcourse.vae.priors import MixturePrior, VampPrior
from gmcourse.vae.quadrature import LatentGrid
from gmcourse.vae.vae import VAE

__all__ = [
    "VAE",
    "Bernoulli",
    "Elbo",
    "Gaussian",
    "GaussianEncoder",
    "HierarchicalVAE",
    "LatentGrid",
    "MixturePrior",
    "VampPrior",
    "active_units",
    "aggregated_posterior",
    "conv_hierarchy",
    "conv_vae",
    "cyclical_beta",
    "diagonal_normal",
    "elbo",
    "elbo_gradients",
    "gaussian_kl",
    "iwae_bound",
    "linear_beta",
    "mlp_hierarchy",
    "mlp_vae",
]
