"""Chapter 11, denoising diffusion GANs: seven exercises from thesis chapter 6, large steps back that are drawn by a GAN.

The references know nothing of `gmcourse.diffusion` or `gmcourse.compositions`: β come of a trapezium, noise levels are
angles, posteriors a correction of what was expected, q(x_s | x_t) comes by Bayes' rule in x_s, slopes of whole Jacobians,
and a chain with an oracle is read off as the affine map that it is. Tolerance is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch11 import edit, exact, game, pairs, posterior, sampling, schedule
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "ddgan")

EXERCISES = (
    _exercise(schedule.betas, schedule.of_the_thesis, schedule.whatever_the_number_of_steps),
    _exercise(exact.true_denoising, exact.after_a_short_step, exact.after_a_long_step),
    _exercise(pairs.pair, pairs.on_the_way, pairs.next_to_the_data),
    _exercise(posterior.posterior_step, posterior.on_the_way, posterior.on_to_the_data),
    _exercise(game.discriminator_loss, game.without_a_penalty, game.with_r1, game.its_gradient),
    _exercise(sampling.sample, sampling.with_an_oracle, sampling.with_a_net),
    _exercise(edit.stroke_edit, edit.from_the_middle, edit.from_both_ends),
)
