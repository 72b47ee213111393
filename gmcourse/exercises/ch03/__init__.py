"""Chapter 3, normalizing flows: eight exercises from thesis 2.2 and the slides' taxonomy.

The references know nothing of `gmcourse.flows`: densities come from `torch.distributions`, Jacobians and slopes from
autograd, the inverse of a spline from bisection, determinants from eigenvalues or the whole matrix. Tolerance is 1e-6
relative.
"""

from collections.abc import Callable

from gmcourse.exercises.ch03 import affine, densities, determinants, masks, planar, spline
from gmcourse.exercises.core import Exercise, Property


def _exercise(reference: Callable, *properties: Callable) -> Exercise:
    """An exercise of this chapter, named after its reference; each property is worth one point."""
    return Exercise(f"flows.{reference.__name__}", reference, tuple(Property(1, p) for p in properties))


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
