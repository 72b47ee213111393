"""Chapter 4, energy-based models: eight exercises from thesis 2.3 and the slides.

The references know nothing of `gmcourse.ebm`: hidden units are summed out state by state, second derivatives come from
`torch.func`, slopes and densities from `torch.distributions`, products of Gaussians are folded up two at a time. Tolerance
is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch04 import experts, likelihood, noise, scores
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "ebm")

EXERCISES = (
    _exercise(experts.product_of_experts, experts.of_two_experts, experts.of_many_experts),
    _exercise(experts.free_energy, experts.of_small_weights, experts.of_large_weights),
    _exercise(likelihood.contrastive_loss, likelihood.its_value, likelihood.its_gradient),
    _exercise(likelihood.langevin, likelihood.one_step, likelihood.many_steps),
    _exercise(scores.implicit_score_matching, scores.of_separate_dimensions, scores.of_entangled_dimensions),
    _exercise(scores.denoising_score_matching, scores.at_unit_noise, scores.at_little_noise),
    _exercise(scores.sliced_score_matching, scores.along_axes, scores.along_random_directions),
    _exercise(noise.nce_loss, noise.with_as_much_noise, noise.with_much_noise_of_sure_models),
)
