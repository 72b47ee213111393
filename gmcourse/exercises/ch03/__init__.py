"""Chapter 3, normalizing flows: eight exercises from thesis 2.2 and the slides' taxonomy.

The references know nothing of `gmcourse.flows`: densities come from `torch.distributions`, Jacobians and slopes from
autograd, the inverse of a spline from bisection, determinants from eigenvalues or the whole matrix. Tolerance is 1e-6
relative.
"""

from functools import partial

from gmcourse.exercises.ch03 import affine, densities, determinants, masks, planar, spline
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "flows")

EXERCISES = (
    _exercise(densities.change_of_variables, densities.increasing, densities.decreasing),
    _exercise(affine.coupling, affine.of_even_size, affine.of_odd_size),
    _exercise(masks.made_masks, masks.in_natural_order, masks.in_any_order),
    _exercise(spline.spline_inverse, spline.of_bent_bins, spline.of_straight_bins),
    _exercise(planar.planar, planar.unbent, planar.bent),
    _exercise(determinants.determinant_lemma, determinants.of_small_matrices, determinants.of_a_huge_matrix),
    _exercise(determinants.hutchinson, determinants.with_one_probe, determinants.with_many_probes),
    _exercise(densities.bits_per_dim, densities.of_one_value, densities.of_images),
)
