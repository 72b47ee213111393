"""Numerical engines that know energies and scores, no models: Markov chains in parallel, and what tells if they work."""

from gmcourse.sampling.annealed import AnnealedLangevin
from gmcourse.sampling.diagnostics import Bias, autocorrelation, bias_against_step, chain_ess, integrated_time, r_hat
from gmcourse.sampling.hmc import HMC
from gmcourse.sampling.langevin import MALA, ULA
from gmcourse.sampling.sampler import Sampler, State, Trace

__all__ = [
    "HMC",
    "MALA",
    "ULA",
    "AnnealedLangevin",
    "Bias",
    "Sampler",
    "State",
    "Trace",
    "autocorrelation",
    "bias_against_step",
    "chain_ess",
    "integrated_time",
    "r_hat",
]
