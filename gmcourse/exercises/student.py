"""A student's function, called so that whatever it does stays inside the call.

`Student(fn)(mu=mu, eps=eps)` hands over copies in the order written (the student may have named them
otherwise), with prints and warnings silenced and the global random state put back. What comes out is an
`Answer`, which knows how it was asked for; whatever is amiss is raised as `Wrong` with the sentence that the
student will read.
"""

import contextlib
import dis
import io
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

from gmcourse.randomness import seeded

# Inputs are float64; this leaves room for a constant that was rounded to float32 on the way.
RTOL, ATOL = 1e-6, 1e-8


class Wrong(Exception):
    """What is amiss: one sentence and a hint, never the answer."""


class NotAttempted(Exception):
    """The function still raises the stub's NotImplementedError."""


class Student:
    """A function under test. Every call sees another global random state, so that hidden noise shows."""

    def __init__(self, fn: Callable):
        self.fn = fn
        self._seeds = count(1)

    def __call__(self, **arguments) -> "Answer":
        """Call the function with the values, positionally. Raises NotAttempted, or Wrong for an exception."""
        call = ", ".join(f"{name}{_describe(value)}" for name, value in arguments.items())
        copies = [v.clone() if isinstance(v, Tensor) else v for v in arguments.values()]
        try:
            with sealed(next(self._seeds)):
                return Answer(self.fn(*copies), call, again=lambda: self(**arguments))
        except (Exception, SystemExit) as error:
            if _is_stub(self.fn, error):
                raise NotAttempted from None
            raise Wrong(f"{_headline(error)}{_place(self.fn, error)} (called with {call})") from None

    def gradient(self, weights: Tensor, shape: torch.Size, **arguments) -> "Answer":
        """The gradient for `weights` of the sum of the answer, which has `shape`: an answer itself, or Wrong."""
        answer = self(**arguments)
        value = answer.tensor(shape)
        found = None
        if value.requires_grad:
            (found,) = torch.autograd.grad(value.sum(), weights, retain_graph=True, allow_unused=True)
        if found is None:
            raise Wrong("no gradient reaches the weights: what cuts it off (detach, no_grad, a float for a tensor)?")
        return Answer(found, answer.call, lambda: self.gradient(weights, shape, **arguments), "gradient")


@dataclass(frozen=True)
class Answer:
    """What the function returned, and the call that it returned it for; `part` names one of several values."""

    value: object
    call: str
    again: Callable[[], "Answer"]
    part: str = ""

    def parts(self, *names: str) -> list["Answer"]:
        """One answer for each of the values returned together, else Wrong."""
        wanted = f"{len(names)} values ({', '.join(names)})"
        if not isinstance(self.value, (tuple, list)):
            came = "None: is there a return?" if self.value is None else type(self.value).__name__
            raise Wrong(f"wanted {wanted}, got {came} (called with {self.call})")
        if len(self.value) != len(names):
            raise Wrong(f"wanted {wanted}, got {len(self.value)} (called with {self.call})")
        return [
            Answer(value, self.call, lambda k=k: self.again().parts(*names)[k], name)
            for k, (name, value) in enumerate(zip(names, self.value, strict=True))
        ]

    def should_be(
        self,
        want: Tensor,
        hint: str,
        suspects: Sequence[tuple[str, Tensor]] = (),
        nonfinite: str | None = None,
    ) -> None:
        """Raise Wrong unless the answer is the tensor `want`, to within RTOL and ATOL.

        Args:
            hint: what to think about where nothing more special is known.
            suspects: what typical mistakes would give, each behind the hint that helps with it.
            nonfinite: the hint for values that are inf or nan.
        """
        got = self.tensor(want.shape, nonfinite).detach()
        if _close(got, want):
            return
        if not _close(got, self.again().tensor(want.shape, nonfinite)):
            raise self._wrong("the same inputs give other values at every call: is noise drawn inside?")
        for special, wrong in suspects:
            if _close(got, wrong):
                raise self._wrong(special)
        raise self._wrong(f"{_difference(got, want)}: {hint}")

    def tensor(self, shape: torch.Size, nonfinite: str | None = None) -> Tensor:
        """The answer as a finite float64 tensor of this shape, else Wrong; a plain number is one of shape ()."""
        value, wanted = self.value, f"a tensor of shape {tuple(shape)}" if shape else "a number"
        if not shape and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = torch.tensor(value, dtype=torch.float64)
        if value is None:
            raise self._wrong(f"returned None, wanted {wanted}: is there a return? (called with {self.call})")
        if not isinstance(value, Tensor):
            raise self._wrong(f"returned {type(value).__name__}, wanted {wanted} (called with {self.call})")
        if value.shape != shape:
            came = tuple(value.shape)
            raise self._wrong(f"returned shape {came}, wanted {tuple(shape)} (called with {self.call})")
        if value.dtype != torch.float64:
            raise self._wrong(f"returned {value.dtype} for float64 input: is there a conversion on the way?")
        if not value.isfinite().all():
            bad = f"{int(value.isfinite().logical_not().sum())} of {value.numel()}"
            raise self._wrong(nonfinite or f"{bad} values are inf or nan (called with {self.call})")
        return value

    def number(self) -> float:
        """The answer as a finite float; a tensor without dimensions counts, else Wrong."""
        if isinstance(self.value, Tensor) and self.value.ndim == 0 and not self.value.is_complex():
            number = float(self.value)
        elif isinstance(self.value, (int, float)) and not isinstance(self.value, bool):
            number = float(self.value)
        else:
            came = "None: is there a return?" if self.value is None else type(self.value).__name__
            raise self._wrong(f"wanted a number, got {came} (called with {self.call})")
        if number != number or abs(number) == float("inf"):
            raise self._wrong(f"returned {number} (called with {self.call})")
        return number

    def _wrong(self, text: str) -> Wrong:
        """What is amiss with this answer, after the name of the part."""
        return Wrong(f"{self.part}: {text}" if self.part else text)


@contextlib.contextmanager
def sealed(seed: int):
    """Prints, warnings and global randomness of what runs inside stay inside."""
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
        seeded(seed),
        torch.enable_grad(),
    ):
        warnings.simplefilter("ignore")
        yield


def _close(got: Tensor, want: Tensor) -> bool:
    return got.shape == want.shape and torch.allclose(got, want, rtol=RTOL, atol=ATOL)


def _difference(got: Tensor, want: Tensor) -> str:
    """How the values differ: by their sign, one factor, one offset, or otherwise."""
    if _close(got, -want):
        return "the sign is turned round"
    if not got.ndim:
        return f"{float(got):.4g} is not the value"
    ratio = (got * want).sum() / want.square().sum().clamp_min(ATOL)
    if ratio and _close(got, ratio * want):
        return f"every value is {ratio:.3g} times what it should be"
    offset = (got - want).mean()
    if got.numel() > 1 and _close(got, want + offset):
        return f"every value is off by the same {offset:+.3g}"
    return f"the values are off by up to {(got - want).abs().max():.2g}"


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f" {tuple(value.shape)}" if value.ndim else f" {float(value):.2g}"
    return "" if callable(value) else f" {value:.2g}" if isinstance(value, float) else f" {value}"


def _headline(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text if len(text) <= 160 else text[:157] + '…'}".removesuffix(": ")


def _frames(error: BaseException) -> list:
    """Tracebacks from the student's function inwards."""
    frames, trace = [], error.__traceback__.tb_next
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames


def _place(fn: Callable, error: BaseException) -> str:
    frames = [f for f in _frames(error) if f.tb_frame.f_code is getattr(fn, "__code__", None)]
    if not frames:
        return ""
    return f" in line {frames[-1].tb_lineno - fn.__code__.co_firstlineno + 1} of the function"


def _is_stub(fn: Callable, error: BaseException) -> bool:
    """Whether a `raise NotImplementedError` written by the student's side is what ended the call.

    PyTorch raises the same exception for operations it lacks (on integers, say): that is a mistake, not a
    stub. A raise statement shows in the instruction at which the innermost frame stopped.
    """
    frames = _frames(error)
    if not isinstance(error, NotImplementedError) or not frames:
        return False
    code, home = frames[-1].tb_frame.f_code, frames[-1].tb_frame.f_globals.get("__name__")
    stopped_at = dis.opname[code.co_code[frames[-1].tb_lasti]]
    return stopped_at == "RAISE_VARARGS" and home == getattr(fn, "__module__", None)
