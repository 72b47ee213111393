"""Numerical engines that know energies and scores, no models: Markov chains in parallel, and what tells if they work;
differential equations, ordinary and stochastic."""

from gmcourse.sampling.annealed import AnnealedLangevin
from gmcourse.sampling.diagnostics import Bias, autocorrelation, bias_against_step, chain_ess, integrated_time, r_hat
from gmcourse.sampling.hmc import HMC
from gmcourse.sampling.langevin import MALA, ULA
from gmcourse.sampling.ode import Path, odeint
from gmcourse.sampling.sampler import Sampler, State, Trace
from gmcourse.sampling.sde import sdeint

__all__ = [
    "HMC",
    "MALA",
    "ULA",
    "AnnealedLangevin",
    "Bias",
    "Path",
    "Sampler",
    "State",
    "Trace",
    "autocorrelation",
    "bias_against_step",
    "chain_ess",
    "integrated_time",
    "odeint",
    "r_hat",
    "sdeint",
]
