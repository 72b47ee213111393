"""Chapter 9, exponential tilting: seven exercises from thesis 4.2 and 4.3, with energies that correct a base.

The references know nothing of `gmcourse.compositions`: integrals come from `torch.distributions`, slopes from whole
Jacobians, curvature from autograd's Hessian, weights from scipy. Tolerance is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch09 import fresh, gaussian, joint, noise, partition, stability, weights
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "tilting")

EXERCISES = (
    _exercise(gaussian.gaussian, gaussian.its_normaliser, gaussian.its_covariance),
    _exercise(noise.noise_step, noise.of_a_flow, noise.of_a_vae),
    _exercise(stability.largest_step, stability.at_a_mode, stability.where_energies_bend),
    _exercise(weights.importance_loss, weights.of_weighted_draws, weights.whatever_the_constant),
    _exercise(fresh.fresh_noise, fresh.who_jumps, fresh.where_to),
    _exercise(partition.log_z, partition.its_value, partition.its_errors, partition.of_large_energies),
    _exercise(joint.joint_loss, joint.energy_learns, joint.base_learns),
)
