"""What an exercise is: a name, a reference solution, and properties worth points, each a small test.

A property is `test(student, random)`: it draws inputs from `random`, calls the student on them and raises
`Wrong` if the answer lacks the property. Inputs are the same at every run (their seed comes from the
exercise's name), so points are too.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from gmcourse.exercises.student import NotAttempted, Student, Wrong


class Random:
    """Random inputs in float64: the seed decides, not the global state."""

    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Uniform numbers in [low, high)."""
        return low + (high - low) * torch.rand(shape, generator=self.generator, dtype=torch.float64)

    def sizes(self, count: int) -> list[int]:
        """Different sizes from 3 to 9, so that a sum over the wrong axis shows in the shape."""
        return [3 + int(i) for i in torch.randperm(7, generator=self.generator)[:count]]


@dataclass(frozen=True)
class Property:
    """What a solution must satisfy, and the points it is worth."""

    points: int
    test: Callable[[Student, Random], None]


@dataclass(frozen=True)
class Exercise:
    """One exercise: `reference` solves it, by other means than the course's own models do."""

    name: str
    reference: Callable
    properties: tuple[Property, ...]

    @property
    def points(self) -> int:
        """What a full solution earns."""
        return sum(p.points for p in self.properties)


def one_point_each(topic: str, reference: Callable, *properties: Callable[[Student, Random], None]) -> Exercise:
    """An exercise of a topic, named after its reference; each property is worth one point."""
    return Exercise(f"{topic}.{reference.__name__}", reference, tuple(Property(1, p) for p in properties))


def grade(exercise: Exercise, fn: Callable) -> tuple[int, str]:
    """Points that `fn` earns, and the line that says so. Nothing that `fn` does is raised."""
    name, full = exercise.name, exercise.points
    if not callable(fn):
        return 0, f"✗ {name} 0/{full}: check wants the function itself, got {type(fn).__name__}"
    student, points, findings = Student(fn), 0, []
    for k, prop in enumerate(exercise.properties):
        try:
            prop.test(student, Random(zlib.crc32(f"{name}/{k}".encode())))
            points += prop.points
        except NotAttempted:
            if k == 0:
                return 0, f"– {name} not attempted"
            findings.append("NotImplementedError is still raised on some inputs")
        except Wrong as wrong:
            findings.append(str(wrong))
        except Exception as error:
            findings.append(f"the answer can't be worked with: {' '.join(repr(error).split())[:200]}")
    return points, f"✓ {name} {points}/{full}" if not findings else f"✗ {name} {points}/{full}: {findings[0]}"
