"""Chapter 5, diffusion and score models: ten exercises from thesis 2.4, the slides, LSGM and D&C.

The references know nothing of `gmcourse.diffusion`: noise levels are angles, posteriors come of a joint Gaussian, marginals
of a quadrature, times of a bisection, slopes of whole Jacobians. Tolerance is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch05 import backward, chain, continuous, loss, scores, times
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "diffusion")

EXERCISES = (
    _exercise(chain.q_sample, chain.at_one_time, chain.at_a_time_for_each_row),
    _exercise(chain.posterior, chain.on_the_way, chain.next_to_the_data),
    _exercise(loss.simple_loss, loss.its_value, loss.its_gradient),
    _exercise(backward.ancestral_step, backward.with_noise, backward.without_noise_at_the_end),
    _exercise(backward.ddim_step, backward.between_two_times, backward.on_to_the_data),
    _exercise(continuous.vp_marginal, continuous.of_constant_beta, continuous.of_rising_beta),
    _exercise(continuous.reverse_step, continuous.of_constant_coefficients, continuous.of_changing_coefficients),
    _exercise(scores.annealed_langevin, scores.at_one_level, scores.through_falling_levels),
    _exercise(times.importance_times, times.at_the_ends, times.in_between),
    _exercise(scores.guided_score, scores.at_scale_one, scores.at_other_scales),
)
