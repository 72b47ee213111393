"""Energy-based models: p(x) = e^{−E(x)} / Z, and every way the sources train them (thesis 2.3)."""

from gmcourse.ebm.buffer import ReplayBuffer
from gmcourse.ebm.contrastive import MaximumLikelihood, contrastive, temperature_of
from gmcourse.ebm.denoising import denoising_score_matching, multi_scale
from gmcourse.ebm.ebm import EBM
from gmcourse.ebm.energy import mlp_energy, score, spectral_regularisation, values
from gmcourse.ebm.gaussian_rbm import GaussianRBM
from gmcourse.ebm.images import conv_energy, resnet_energy
from gmcourse.ebm.noise_contrastive import ConditionalNoiseContrast, NoiseContrast
from gmcourse.ebm.probability_flow import binary_probability_flow, minimum_probability_flow
from gmcourse.ebm.product import MixtureOfExperts, ProductOfExperts, negation
from gmcourse.ebm.rbm import RBM
from gmcourse.ebm.score_matching import explicit_score_matching, implicit_score_matching
from gmcourse.ebm.sliced import sliced_score_matching
from gmcourse.ebm.stein import SteinDiscrepancy
from gmcourse.nets.spectral import spectrally_normalised

__all__ = [
    "EBM",
    "RBM",
    "ConditionalNoiseContrast",
    "GaussianRBM",
    "MaximumLikelihood",
    "MixtureOfExperts",
    "NoiseContrast",
    "ProductOfExperts",
    "ReplayBuffer",
    "SteinDiscrepancy",
    "binary_probability_flow",
    "contrastive",
    "conv_energy",
    "denoising_score_matching",
    "explicit_score_matching",
    "implicit_score_matching",
    "minimum_probability_flow",
    "mlp_energy",
    "multi_scale",
    "negation",
    "resnet_energy",
    "score",
    "sliced_score_matching",
    "spectral_regularisation",
    "spectrally_normalised",
    "temperature_of",
    "values",
]
