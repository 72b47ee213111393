"""The course's explorers by name: functions that return an `Explorer`; some want trained models."""

from gmcourse.viz.explorers.contrast import noise_contrastive
from gmcourse.viz.explorers.denoising_latent import denoising_latent
from gmcourse.viz.explorers.denoising_posterior import denoising_posterior
from gmcourse.viz.explorers.dirac import dirac_gan
from gmcourse.viz.explorers.divergences import divergence_fit
from gmcourse.viz.explorers.ebm_concepts import compose_concepts
from gmcourse.viz.explorers.ebm_denoising import dsm_sigma
from gmcourse.viz.explorers.ebm_landscape import ebm_landscape
from gmcourse.viz.explorers.energy_or_flow import energy_or_flow
from gmcourse.viz.explorers.families import five_families
from gmcourse.viz.explorers.few_steps import few_steps
from gmcourse.viz.explorers.film import diffusion_film
from gmcourse.viz.explorers.flow_layers import flow_layers
from gmcourse.viz.explorers.flow_playground import flow_playground
from gmcourse.viz.explorers.flow_trajectories import cnf_trajectories
from gmcourse.viz.explorers.gan_training import gan_training
from gmcourse.viz.explorers.landscape import mixture_landscape
from gmcourse.viz.explorers.langevin import langevin_particles
from gmcourse.viz.explorers.latent_beta import latent_beta
from gmcourse.viz.explorers.latent_prior import latent_prior
from gmcourse.viz.explorers.noise_interpolation import noise_interpolation
from gmcourse.viz.explorers.phase_space import cld_phase_space
from gmcourse.viz.explorers.race import sampler_race
from gmcourse.viz.explorers.schedules import schedule_designer
from gmcourse.viz.explorers.short_run_steps import short_run_steps
from gmcourse.viz.explorers.strokes import strokes
from gmcourse.viz.explorers.style_mixing import style_mixing
from gmcourse.viz.explorers.tilted_walk import tilted_walk
from gmcourse.viz.explorers.tilting_line import tilting_line
from gmcourse.viz.explorers.tilting_plane import tilting_plane
from gmcourse.viz.explorers.trilemma import trilemma
from gmcourse.viz.explorers.vae import beta_traversal, prior_hole

GENERAL = (five_families, mixture_landscape)
CHAPTER1 = (divergence_fit, noise_contrastive, langevin_particles)
CHAPTER2 = (beta_traversal, prior_hole)
CHAPTER3 = (flow_layers, flow_playground, cnf_trajectories)
CHAPTER4 = (ebm_landscape, dsm_sigma, compose_concepts)
CHAPTER5 = (diffusion_film, schedule_designer, sampler_race, cld_phase_space)
CHAPTER6 = (gan_training, dirac_gan, style_mixing)
CHAPTER7 = (trilemma,)
CHAPTER8 = (latent_prior, latent_beta)
CHAPTER9 = (tilting_line, tilting_plane, tilted_walk)
CHAPTER10 = (short_run_steps, energy_or_flow, noise_interpolation)
CHAPTER11 = (denoising_posterior, denoising_latent, few_steps, strokes)
FIRST = (GENERAL, CHAPTER1, CHAPTER2, CHAPTER3, CHAPTER4, CHAPTER5)
SECOND = (CHAPTER6, CHAPTER7, CHAPTER8, CHAPTER9, CHAPTER10, CHAPTER11)
BY_CHAPTER = (*FIRST, *SECOND)
EXPLORERS = {f.__name__: f for chapter in BY_CHAPTER for f in chapter}
