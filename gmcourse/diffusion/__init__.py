"""Diffusion and score models: data dissolve in noise step by step, and a score leads the way back (thesis 2.4)."""

from gmcourse.diffusion.bound import Bound, term, variational_bound
from gmcourse.diffusion.cld import CLD
from gmcourse.diffusion.cld_model import CLDModel
from gmcourse.diffusion.cld_samplers import SSCS, CLDEuler, CLDFlow
from gmcourse.diffusion.ddpm import DDPM
from gmcourse.diffusion.denoising_posterior import DenoisingLaw, average_gap, true_denoising
from gmcourse.diffusion.edit import inpaint, sdedit
from gmcourse.diffusion.flow_samplers import DPMSolver2, DPMSolverPP, FlowEuler, FlowHeun
from gmcourse.diffusion.guidance import classifier_free, classifier_guided
from gmcourse.diffusion.ncsn import NCSN, noise_scales
from gmcourse.diffusion.probability_flow import flow_log_prob
from gmcourse.diffusion.reverse import EulerMaruyama, PredictorCorrector, ReverseDiffusion, falling_times
from gmcourse.diffusion.samplers import DDIM, Ancestral, run, walk
from gmcourse.diffusion.schedule import (
    DiscreteDiffusion,
    convert,
    cosine_betas,
    linear_betas,
    sigmoid_betas,
    vp_betas,
)
from gmcourse.diffusion.score import ScoreModel, cross_entropy_bound
from gmcourse.diffusion.sde import SDE, VE, VP, GeometricVP, SubVP
from gmcourse.diffusion.times import ImportanceTimes, UniformTimes

__all__ = [
    "CLD",
    "DDIM",
    "DDPM",
    "NCSN",
    "SDE",
    "SSCS",
    "VE",
    "VP",
    "Ancestral",
    "Bound",
    "CLDEuler",
    "CLDFlow",
    "CLDModel",
    "DPMSolver2",
    "DPMSolverPP",
    "DenoisingLaw",
    "DiscreteDiffusion",
    "EulerMaruyama",
    "FlowEuler",
    "FlowHeun",
    "GeometricVP",
    "ImportanceTimes",
    "PredictorCorrector",
    "ReverseDiffusion",
    "ScoreModel",
    "SubVP",
    "UniformTimes",
    "average_gap",
    "classifier_free",
    "classifier_guided",
    "convert",
    "cosine_betas",
    "cross_entropy_bound",
    "falling_times",
    "flow_log_prob",
    "inpaint",
    "linear_betas",
    "noise_scales",
    "run",
    "sdedit",
    "sigmoid_betas",
    "term",
    "true_denoising",
    "variational_bound",
    "vp_betas",
    "walk",
]
