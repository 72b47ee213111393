"""Where families meet: models that are composed of two (thesis chapters 3 to 6)."""

from gmcourse.compositions.adversarial_ae import WAEGAN, AdversarialAutoencoder
from gmcourse.compositions.annealed_tilt import AnnealedTilt
from gmcourse.compositions.autoencoder import Autoencoder, SquaredError
from gmcourse.compositions.ddgan import DenoisingDiffusionGAN
from gmcourse.compositions.ddgan_diagnostics import latent_shares, losses_by_step
from gmcourse.compositions.diffused_critic import DiffusedCritic
from gmcourse.compositions.discriminator_tilt import discriminator_tilt, noise_contrastive_tilt
from gmcourse.compositions.dynamics import GradientFlow, Langevin
from gmcourse.compositions.flow_posterior import FlowPosterior, flow_posterior_vae
from gmcourse.compositions.flow_prior import flow_prior_vae
from gmcourse.compositions.generator_update import GeneratorUpdate
from gmcourse.compositions.inversion import interpolate, reconstruct
from gmcourse.compositions.joint_chains import JointChains
from gmcourse.compositions.latent_flow import GenerativeLatentFlow
from gmcourse.compositions.negatives import Importance, NoiseChains
from gmcourse.compositions.perceptual import PerceptualLoss
from gmcourse.compositions.persistence import Persistence
from gmcourse.compositions.posthoc import codes, fit_gaussian, fit_mixture
from gmcourse.compositions.rae import RegularisedAutoencoder
from gmcourse.compositions.self_contrast import SelfContrast, exact_likelihood
from gmcourse.compositions.short_run import ShortRun
from gmcourse.compositions.stability import lipschitz, step_bounds, stretches
from gmcourse.compositions.tempered_tilt import TemperedTilt
from gmcourse.compositions.tilt_constants import log_z_annealed, log_z_quadrature
from gmcourse.compositions.tilted import Tilted
from gmcourse.compositions.two_stage import TwoStageVAE
from gmcourse.compositions.vaebm import vaebm
from gmcourse.compositions.vamp import vampprior_vae
from gmcourse.compositions.wae import IMQ, RBF, WassersteinAutoencoder, mmd2_unbiased

__all__ = [
    "IMQ",
    "RBF",
    "WAEGAN",
    "AdversarialAutoencoder",
    "AnnealedTilt",
    "Autoencoder",
    "DenoisingDiffusionGAN",
    "DiffusedCritic",
    "FlowPosterior",
    "GenerativeLatentFlow",
    "GeneratorUpdate",
    "GradientFlow",
    "Importance",
    "JointChains",
    "Langevin",
    "NoiseChains",
    "PerceptualLoss",
    "Persistence",
    "RegularisedAutoencoder",
    "SelfContrast",
    "ShortRun",
    "SquaredError",
    "TemperedTilt",
    "Tilted",
    "TwoStageVAE",
    "WassersteinAutoencoder",
    "codes",
    "discriminator_tilt",
    "exact_likelihood",
    "fit_gaussian",
    "fit_mixture",
    "flow_posterior_vae",
    "flow_prior_vae",
    "interpolate",
    "latent_shares",
    "lipschitz",
    "log_z_annealed",
    "log_z_quadrature",
    "losses_by_step",
    "mmd2_unbiased",
    "noise_contrastive_tilt",
    "reconstruct",
    "step_bounds",
    "stretches",
    "vaebm",
    "vampprior_vae",
]
