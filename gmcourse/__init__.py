"""Deep generative models, one protocol: the library behind the notebooks of the course.

>>> import torch
>>> from gmcourse import StandardNormal
>>> StandardNormal(2).log_prob(torch.zeros(1, 2))
tensor([-1.8379])
"""

from gmcourse.fit import fit
from gmcourse.model import GenerativeModel, Likelihood, Player, StandardNormal, device
from gmcourse.training.history import History
from gmcourse.version import __version__

__all__ = ["GenerativeModel", "History", "Likelihood", "Player", "StandardNormal", "__version__", "device", "fit"]
