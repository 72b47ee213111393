"""The checks behind the exercises: `check(name, fn)` takes what a student wrote and says how it does.

    ✓ vae.elbo 2/2
    ✗ vae.elbo 1/2: the KL has the wrong sign: does it raise the bound or lower it?
    – vae.elbo not attempted

An exercise is a list of properties, each worth points and each tested on random inputs in float64 against
something that shares no code with the course's own models: `torch.distributions`, autograd, a quadrature. The
line names the first property that fails and gives a hint, never the answer. The exercises of a chapter lie in
`chNN.py` or, where they are many, in a folder `chNN`, loaded when one is asked for.
"""

import sys
from collections.abc import Callable
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from gmcourse.exercises.core import Exercise, grade

__all__ = ["Exercise", "check", "exercises"]


def check(name: str, fn: Callable, *, strict: bool = False) -> int:
    """Points that `fn` earns in the exercise `name`; prints one line and never raises (Ctrl-C excepted).

    What `fn` prints is swallowed and its warnings are silenced: the line is all there is to see, and stderr
    stays empty. Its inputs are copies, and the global random state is as it was afterwards.

    Args:
        strict: raise AssertionError with the line unless every point is earned, as nbgrader's hidden tests
        want it.

    >>> check("vae.iwae", lambda log_w: log_w.mean(1))
    ✗ vae.iwae 0/2: that is the mean of the logarithms, the ELBO: in which order do mean and log come?
    0
    """
    exercise = exercises().get(name) if isinstance(name, str) else None
    if exercise is None:
        points, full, line = 0, 1, _unknown(name)
    else:
        points, line = grade(exercise, fn)
        full = exercise.points
    if strict and points < full:
        raise AssertionError(line)
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "replace").decode(encoding))
    return points


@cache
def exercises() -> dict[str, Exercise]:
    """Every exercise of the course by name, in the order of the chapters."""
    chapters = sorted(module.name for module in iter_modules(__path__) if module.name.startswith("ch"))
    return {e.name: e for chapter in chapters for e in import_module(f"{__name__}.{chapter}").EXERCISES}


def _unknown(name: object) -> str:
    if not isinstance(name, str):
        return f"✗ check wants a name, then a function; got {type(name).__name__} as the name"
    near = get_close_matches(name, exercises(), n=3, cutoff=0.4)
    return f"✗ {name}: no such exercise" + (f"; did you mean {' or '.join(near)}?" if near else "")
