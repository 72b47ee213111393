"""The course's explorers by name: functions that return an `Explorer`; some want trained models."""

from gmcourse.viz.explorers.families import five_families
from gmcourse.viz.explorers.landscape import mixture_landscape
from gmcourse.viz.explorers.vae import beta_traversal, prior_hole

EXPLORERS = {f.__name__: f for f in (five_families, mixture_landscape, beta_traversal, prior_hole)}
