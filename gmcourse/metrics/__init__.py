"""How good is a model, in numbers: divergences, likelihoods, normalisers, and what samples tell."""

from gmcourse.metrics.divergences import (
    fisher,
    fisher_mc,
    js,
    js_mc,
    kl,
    kl_mc,
    total_variation,
    total_variation_mc,
)
from gmcourse.metrics.grid import Grid
from gmcourse.metrics.likelihood import Estimate, likelihood_gap
from gmcourse.metrics.mmd import median_bandwidth, mmd2
from gmcourse.metrics.modes import ModeReport, mode_report, stacked_mnist_modes
from gmcourse.metrics.neighbours import Neighbours, nearest_neighbours
from gmcourse.metrics.ood import auroc, auroc_table, interpolations
from gmcourse.metrics.pareto import undominated
from gmcourse.metrics.partition import LogZ, ess, log_z_ais, log_z_ais_reverse, log_z_grid, log_z_importance
from gmcourse.metrics.precision_recall import PRDCurve, PrecisionRecall, improved_precision_recall, prd
from gmcourse.metrics.samples import frechet_distance, frechet_gaussians, inception_score, kernel_distance
from gmcourse.metrics.transport import sliced_wasserstein, wasserstein

__all__ = [
    "Estimate",
    "Grid",
    "LogZ",
    "ModeReport",
    "Neighbours",
    "PRDCurve",
    "PrecisionRecall",
    "auroc",
    "auroc_table",
    "ess",
    "fisher",
    "fisher_mc",
    "frechet_distance",
    "frechet_gaussians",
    "improved_precision_recall",
    "inception_score",
    "interpolations",
    "js",
    "js_mc",
    "kernel_distance",
    "kl",
    "kl_mc",
    "likelihood_gap",
    "log_z_ais",
    "log_z_ais_reverse",
    "log_z_grid",
    "log_z_importance",
    "median_bandwidth",
    "mmd2",
    "mode_report",
    "nearest_neighbours",
    "prd",
    "sliced_wasserstein",
    "stacked_mnist_modes",
    "total_variation",
    "total_variation_mc",
    "undominated",
    "wasserstein",
]
