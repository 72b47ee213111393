"""Chapter 10, short-run Langevin dynamics: seven exercises from thesis chapter 5, with an energy as a generator.

The references know nothing of `gmcourse.compositions`: densities come from the Jacobian of the whole way, which traces and
determinants step by step have to meet, inverses from Newton's method, variances from the chain written out, gradients of two
players from two nets. Tolerance is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch10 import between, chain, descent, flow, game, law
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "short_run")

EXERCISES = (
    _exercise(chain.steps, chain.at_any_noise, chain.of_images),
    _exercise(between.interpolate, between.of_vectors_and_images),
    _exercise(law.temperature, law.its_temperature, law.its_variances),
    _exercise(game.contrast, game.its_value, game.its_gradient),
    _exercise(flow.flow_density, flow.in_a_valley, flow.in_a_landscape, flow.its_gradient),
    _exercise(descent.descent_density, descent.in_a_valley, descent.in_a_landscape),
    _exercise(game.generator, game.as_a_critic, game.as_both, game.step_after_step),
)
