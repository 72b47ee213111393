"""Chapter 6, GANs: nine exercises from thesis 2.5, (6.16) and slides (40)–(45), spectral normalisation among them.

The references know nothing of `gmcourse.gan`: best discriminators are two-class posteriors, relative entropies and
transport come from scipy, slopes from whole Jacobians, players descend by autograd. Tolerance is 1e-6 relative.
"""

from functools import partial

from gmcourse.exercises.ch06 import dirac, game, slopes, spectral, style, transport
from gmcourse.exercises.core import one_point_each

_exercise = partial(one_point_each, "gan")

EXERCISES = (
    _exercise(game.optimal_discriminator, game.near_the_mass, game.far_from_the_mass),
    _exercise(game.losses, game.of_critics_in_doubt, game.of_sure_critics),
    _exercise(game.game_value, game.where_both_have_mass, game.where_one_has_none),
    _exercise(transport.wasserstein_line, transport.in_order, transport.in_disorder),
    _exercise(slopes.gradient_penalty, slopes.on_the_lines, slopes.penalty_trains),
    _exercise(slopes.r1, slopes.on_the_data, slopes.r1_trains),
    _exercise(spectral.power_iteration, spectral.from_any_vector, spectral.at_the_singular_vector),
    _exercise(dirac.dirac_step, dirac.with_the_fake_on_the_datum, dirac.with_the_fake_elsewhere),
    _exercise(style.adain, style.without_a_style, style.with_a_style),
)
