"""Chapter 1, foundations: nine exercises from thesis 1.1.3 and 1.2.

The references know nothing of `gmcourse.metrics`, `sampling`, `mixture` or `density_ratio`: densities come from
`torch.distributions`, divergences from scipy's relative entropy, responsibilities from autograd, matrix roots from
eigenvalues. Tolerance is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch01 import densities, em, evaluation, sampling
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "foundations")

EXERCISES = (
    _exercise(densities.bayes, densities.near_the_classes, densities.far_from_all_classes),
    _exercise(densities.js, densities.overlapping, densities.apart),
    _exercise(em.em_step, em.of_one, em.of_many, em.far_out),
    _exercise(densities.log_ratio, densities.ratio_of_sizes, densities.ratio_of_sure_classifiers),
    _exercise(sampling.sir, sampling.sir_of_weights, sampling.sir_of_huge_weights),
    _exercise(sampling.langevin_step, sampling.langevin_at_one, sampling.langevin_at_other_temperatures),
    _exercise(sampling.mala_log_accept, sampling.mala_uphill, sampling.mala_either_way),
    _exercise(evaluation.frechet, evaluation.frechet_of_diagonals, evaluation.frechet_of_full_covariances),
    _exercise(evaluation.mmd2, evaluation.mmd_within, evaluation.mmd_between),
)
