"""How good is a model, in numbers: likelihoods first."""

from gmcourse.metrics.likelihood import Estimate, likelihood_gap

__all__ = ["Estimate", "likelihood_gap"]
