"""Where families meet: models that are composed of two (thesis chapters 3 to 6)."""

from gmcourse.compositions.adversarial_ae import WAEGAN, AdversarialAutoencoder
from gmcourse.compositions.annealed_tilt import AnnealedTilt
from gmcourse.compositions.autoencoder import Autoencoder, SquaredError
from gmcourse.compositions.flow_posterior import FlowPosterior, flow_posterior_vae
from gmcourse.compositions.flow_prior import flow_prior_vae
from gmcourse.compositions.latent_flow import GenerativeLatentFlow
from gmcourse.compositions.negatives import Importance, NoiseChains
from gmcourse.compositions.perceptual import PerceptualLoss
from gmcourse.compositions.posthoc import codes, fit_gaussian, fit_mixture
from gmcourse.compositions.rae import RegularisedAutoencoder
from gmcourse.compositions.tilted import Tilted
from gmcourse.compositions.two_stage import TwoStageVAE
from gmcourse.compositions.vamp import vampprior_vae
from gmcourse.compositions.wae import IMQ, RBF, WassersteinAutoencoder, mmd2_unbiased

__all__ = [
    "IMQ",
    "RBF",
    "WAEGAN",
    "AdversarialAutoencoder",
    "AnnealedTilt",
    "Autoencoder",
    "FlowPosterior",
    "GenerativeLatentFlow",
    "Importance",
    "NoiseChains",
    "PerceptualLoss",
    "RegularisedAutoencoder",
    "SquaredError",
    "Tilted",
    "TwoStageVAE",
    "WassersteinAutoencoder",
    "codes",
    "fit_gaussian",
    "fit_mixture",
    "flow_posterior_vae",
    "flow_prior_vae",
    "mmd2_unbiased",
    "vampprior_vae",
]
