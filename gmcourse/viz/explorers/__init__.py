"""The course's explorers by name: functions that return an `Explorer`; some want trained models."""

from gmcourse.viz.explorers.contrast import noise_contrastive
from gmcourse.viz.explorers.divergences import divergence_fit
from gmcourse.viz.explorers.families import five_families
from gmcourse.viz.explorers.landscape import mixture_landscape
from gmcourse.viz.explorers.langevin import langevin_particles
from gmcourse.viz.explorers.vae import beta_traversal, prior_hole

GENERAL = (five_families, mixture_landscape)
CHAPTER1 = (divergence_fit, noise_contrastive, langevin_particles)
CHAPTER2 = (beta_traversal, prior_hole)
EXPLORERS = {f.__name__: f for f in GENERAL + CHAPTER1 + CHAPTER2}
