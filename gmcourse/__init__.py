"""Deep generative models, one protocol: the library behind the notebooks of the course.

Names are looked up when they are first used, so that the command line need not wait for torch.

>>> import torch
>>> from gmcourse import StandardNormal
>>> StandardNormal(2).log_prob(torch.zeros(1, 2))
tensor([-1.8379])
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from gmcourse.version import __version__

if TYPE_CHECKING:
    from gmcourse.fit import fit
    from gmcourse.model import GenerativeModel, Likelihood, Player, StandardNormal, Trainable, device
    from gmcourse.training.history import History

__all__ = [
    "GenerativeModel",
    "History",
    "Likelihood",
    "Player",
    "StandardNormal",
    "Trainable",
    "__version__",
    "device",
    "fit",
]

HOMES = {name: "model" for name in ("GenerativeModel", "Likelihood", "Player", "StandardNormal", "Trainable", "device")}
HOMES |= {"History": "training.history", "fit": "fit"}


class _Package(ModuleType):
    def __getattr__(self, name: str):
        if name not in HOMES:
            raise AttributeError(f"module 'gmcourse' has no attribute {name!r}")
        return getattr(import_module(f"gmcourse.{HOMES[name]}"), name)

    def __setattr__(self, name: str, value) -> None:
        # Importing the module gmcourse.fit must not hide the function gmcourse.fit.
        if not (name in HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
