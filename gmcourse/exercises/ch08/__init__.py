"""Chapter 8, generative latent flow: seven exercises from thesis 3.2 and 3.3, on priors that fit their codes.

The references know nothing of `gmcourse.compositions`: determinants come from whole Jacobians, densities from
`torch.distributions`, neighbours from scipy's tree, gradients from autograd. Tolerance is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch08 import adversary, codes, holes, mmd, objective, prior, scale
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "latent_flow")

EXERCISES = (
    _exercise(prior.prior_term, prior.where_volume_stays, prior.where_the_flow_stretches),
    _exercise(objective.objective, objective.where_q_is_the_prior, objective.elsewhere, objective.posterior_learns),
    _exercise(codes.loss, codes.of_images, codes.who_learns_from_what),
    _exercise(scale.shrink, scale.of_the_codes, scale.of_the_posterior),
    _exercise(mmd.mmd, mmd.of_clouds, mmd.codes_learn),
    _exercise(adversary.adversary, adversary.of_critics_in_doubt, adversary.of_sure_critics),
    _exercise(holes.holes, holes.beyond_the_nearest, holes.beyond_the_kth),
)
