"""Generative adversarial networks: a generator that is trained against a critic (thesis 2.5).

    gan.py            the game of two nets, for `fit`
    objectives.py     what critic and generator minimise
    regularisers.py   what keeps the critic from being steep
    optimal.py        the best critic, and what it tells, where densities are known
    dynamics.py       the game of two numbers: the Dirac-GAN
"""

from gmcourse.gan.dynamics import DiracGAN, alternating, consensus, flow, optimistic, simulate, simultaneous
from gmcourse.gan.gan import GAN, Critic
from gmcourse.gan.objectives import (
    OBJECTIVES,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Objective,
    Wasserstein,
    objective,
)
from gmcourse.gan.optimal import (
    game_value,
    least_critic_loss,
    optimal_critic,
    optimal_discriminator,
    wasserstein_critic,
)
from gmcourse.gan.regularisers import (
    LIPSCHITZ,
    R1,
    R2,
    REGULARISERS,
    Dragan,
    GradientPenalty,
    Lazy,
    Regulariser,
    check_pair,
    clip_weights,
)

__all__ = [
    "GAN",
    "LIPSCHITZ",
    "OBJECTIVES",
    "R1",
    "R2",
    "REGULARISERS",
    "Critic",
    "DiracGAN",
    "Dragan",
    "GradientPenalty",
    "Hinge",
    "Lazy",
    "LeastSquares",
    "Minimax",
    "NonSaturating",
    "Objective",
    "Regulariser",
    "Wasserstein",
    "alternating",
    "check_pair",
    "clip_weights",
    "consensus",
    "flow",
    "game_value",
    "least_critic_loss",
    "objective",
    "optimal_critic",
    "optimal_discriminator",
    "optimistic",
    "simulate",
    "simultaneous",
    "wasserstein_critic",
]
