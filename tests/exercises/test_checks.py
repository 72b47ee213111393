"""The checks are themselves checked: right answers pass, stubs earn nothing, every planted mistake is caught.

Also: whatever the function under test does, `check` prints one line, nothing on stderr, and does not raise.
"""

import importlib.util
import math
import random as python_random
import re
import sys
import warnings
from pathlib import Path

import pytest
import torch

from gmcourse.exercises import check, exercises

HERE = Path(__file__).parent


def load(folder):
    """The dictionaries of every chapter's file in `folder`, merged."""
    merged = {}
    for path in sorted((HERE / folder).glob("ch*.py")):
        spec = importlib.util.spec_from_file_location(f"{folder}_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        merged |= getattr(module, folder.upper())
    return merged


NAMES = list(exercises())
MISTAKES, SOLUTIONS = load("mistakes"), load("solutions")


def each(cases):
    return [pytest.param(n, fn, id=f"{n}: {label}") for n, pairs in cases.items() for label, fn in pairs]


def stub(*args):
    raise NotImplementedError("your turn")


@pytest.fixture
def verdict(capsys):
    """check, but returning (points, line) after making sure that the line was all there was."""

    def run(name, fn, **options):
        points = check(name, fn, **options)
        out, err = capsys.readouterr()
        assert err == ""
        assert out.count("\n") == 1 and out.endswith("\n")
        assert isinstance(points, int) and not isinstance(points, bool)
        return points, out.rstrip("\n")

    return run


@pytest.mark.parametrize("name", NAMES)
def test_reference_earns_all(name, verdict):
    exercise = exercises()[name]
    assert verdict(name, exercise.reference) == (
        exercise.points,
        f"✓ {name} {exercise.points}/{exercise.points}",
    )


@pytest.mark.parametrize(("name", "fn"), each(SOLUTIONS))
def test_right_answers_earn_all(name, fn, verdict):
    assert verdict(name, fn)[1].startswith(f"✓ {name} ")


@pytest.mark.parametrize("name", NAMES)
def test_stub_is_not_attempted(name, verdict):
    assert verdict(name, stub) == (0, f"– {name} not attempted")


@pytest.mark.parametrize(("name", "fn"), each(MISTAKES))
def test_mistake_is_caught_with_a_hint(name, fn, verdict):
    points, line = verdict(name, fn)
    full = exercises()[name].points
    assert points < full
    match = re.fullmatch(rf"✗ {re.escape(name)} {points}/{full}: (.+)", line)
    assert match, line
    assert len(match[1]) > 25 and len(line) < 400


@pytest.mark.parametrize(("name", "fn"), each(MISTAKES))
def test_hint_is_no_code(name, fn, verdict):
    """A hint never is the answer: it holds no expression that could be pasted into the function."""
    _, line = verdict(name, fn)
    hint = line.split(": ", 1)[1].split(" (called with")[0]
    assert not re.search(r"torch\.\w+\(|logsumexp|\*\*|\w\.\w+\(|exp\(", hint), hint


def test_every_exercise_has_three_mistakes_and_an_independent_solution():
    assert {n: len(MISTAKES.get(n, [])) for n in NAMES if len(MISTAKES.get(n, [])) < 3} == {}
    assert set(MISTAKES) == set(SOLUTIONS) == set(NAMES)
    assert all(SOLUTIONS.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "fn",
    [
        pytest.param(lambda *a: torch.zeros(shape_of(a), dtype=torch.float64), id="zeros"),
        pytest.param(lambda *a: torch.ones(shape_of(a), dtype=torch.float64), id="ones"),
        pytest.param(lambda *a: 0.0, id="zero"),
        pytest.param(lambda *a: 1.0, id="one"),
        pytest.param(lambda *a: None, id="None"),
        pytest.param(lambda *a: torch.zeros(2, 3, 4, dtype=torch.float64), id="wrong shape"),
        pytest.param(lambda *a: torch.full(shape_of(a), math.inf, dtype=torch.float64), id="inf"),
        pytest.param(lambda *a: torch.full(shape_of(a), math.nan, dtype=torch.float64), id="nan"),
        pytest.param(lambda *a: torch.zeros(shape_of(a)), id="float32"),
        pytest.param(lambda *a: torch.zeros(shape_of(a), dtype=torch.complex128), id="complex"),
        pytest.param(lambda *a: torch.zeros(shape_of(a), dtype=torch.float64).numpy(), id="numpy"),
        pytest.param(lambda *a: a, id="its inputs"),
        pytest.param(lambda *a: 1 / 0, id="explodes"),
        pytest.param(lambda *a: sys.exit(3), id="exits"),
        pytest.param(lambda: None, id="takes nothing"),
        pytest.param(lambda *a: torch.ones(2, 3) @ torch.ones(5, 7), id="shape error of torch"),
        pytest.param(int, id="a class"),
        pytest.param(len, id="a builtin"),
        pytest.param(None, id="None for a function"),
        pytest.param(torch.zeros(3), id="a tensor for a function"),
    ],
)
def test_useless_functions_earn_nothing_and_do_not_raise(name, fn, verdict):
    points, line = verdict(name, fn)
    assert points == 0
    assert line.startswith(f"✗ {name} 0/")


def shape_of(arguments):
    """The shape a right answer would have, so that nothing but the values is wrong."""
    tensors = [a for a in arguments if isinstance(a, torch.Tensor) and a.ndim]
    if not tensors:
        return ()
    return (
        tensors[0].shape
        if len(tensors) == 3 and len({t.shape for t in tensors}) == 1
        else tensors[0].shape[:1]
    )


def test_what_went_wrong_is_named(verdict):
    _, line = verdict("vae.iwae", lambda log_w: log_w @ log_w)
    assert "RuntimeError" in line and "(called with log_w (" in line

    def third_line(log_w):
        top = log_w.max()

        return top.no_such_thing

    _, line = verdict("vae.iwae", third_line)
    assert "AttributeError" in line and "in line 4 of the function" in line
    assert "is there a return?" in verdict("vae.iwae", lambda log_w: None)[1]
    assert "is there a return?" in verdict("vae.kl_annealing", lambda step, warmup: None)[1]
    assert "wanted a number, got str" in verdict("vae.kl_annealing", lambda step, warmup: "1")[1]
    assert "float32" in verdict("vae.iwae", lambda log_w: log_w.float().mean(1))[1]
    assert "wants the function itself, got Tensor" in verdict("vae.iwae", torch.zeros(3))[1]


def test_the_part_that_is_wrong_is_named(verdict):
    """Where several values are wanted, whatever is amiss with one of them comes after its name."""

    def answer(weights=lambda w: w, size=lambda w: 1 / w.square().sum()):
        return lambda log_w: (weights(log_w.softmax(0)), size(log_w.softmax(0)))

    def line(**changes):
        return verdict("foundations.sir", answer(**changes))[1].split("2: ", 1)[1]

    assert verdict("foundations.sir", answer())[0] == 2
    assert line(weights=lambda w: w[:2]).startswith("weights: returned shape (2,), wanted (")
    assert re.match(r"weights: \d of \d values are inf or nan", line(weights=lambda w: w * math.nan))
    assert line(weights=lambda w: w.float()).startswith("weights: returned torch.float32")
    assert line(size=lambda w: w).startswith("effective sample size: returned shape (")
    assert line(size=lambda w: None).startswith("effective sample size: returned None, wanted a number: is there a return?")
    assert line(size=lambda w: torch.rand(()).double()).startswith("effective sample size: the same inputs")
    assert "wanted 2 values (weights, effective sample size), got 1" in verdict("foundations.sir", lambda w: [w])[1]
    assert "got None: is there a return?" in verdict("foundations.sir", lambda w: None)[1]


def test_a_plain_number_will_do_for_a_scalar(verdict):
    right = exercises()["foundations.mmd2"].reference
    assert verdict("foundations.mmd2", lambda *k: right(*k).item())[0] == 2
    assert "returned bool, wanted a number" in verdict("foundations.mmd2", lambda *k: True)[1]
    assert "0.5 is not the value" in verdict("foundations.mmd2", lambda *k: 0.5)[1]


def test_long_messages_become_one_short_line(verdict):
    def shout(log_w):
        raise ValueError("much\nado " * 500)

    assert len(verdict("vae.iwae", shout)[1]) < 400


def test_torch_lacking_an_operation_is_a_mistake_not_a_stub(verdict):
    """torch raises NotImplementedError of its own, from C++ and from Python."""
    assert verdict("vae.iwae", lambda log_w: log_w.long().logsumexp(1).double())[1].startswith("✗")
    entropy = torch.distributions.Distribution(validate_args=False).entropy
    assert verdict("vae.iwae", lambda log_w: entropy())[1].startswith("✗")


def test_stub_on_some_inputs_only_is_a_mistake(verdict):
    def half(log_w):
        if log_w.abs().max() > 100:
            raise NotImplementedError
        return log_w.logsumexp(1) - math.log(log_w.shape[1])

    points, line = verdict("vae.iwae", half)
    assert points == 1 and "still raised" in line


def test_noise_of_the_function_is_swallowed(verdict):
    """Prints, warnings and writes to stderr: an nbgrader cell with anything on stderr would score 0."""

    def loud(log_w):
        print("here")
        print("there", file=sys.stderr)
        warnings.warn("beware", stacklevel=1)
        return log_w.logsumexp(1) - math.log(log_w.shape[1])

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert verdict("vae.iwae", loud)[0] == 2
    assert caught == []


def test_global_state_is_left_alone_and_has_no_influence(verdict):
    def meddles(log_w):
        torch.manual_seed(3)
        torch.set_grad_enabled(False)
        torch.randn(100)
        return log_w.logsumexp(1) - math.log(log_w.shape[1])

    torch.manual_seed(0)
    want = torch.randn(3)
    torch.manual_seed(0)
    assert verdict("vae.iwae", meddles)[0] == 2
    assert torch.equal(torch.randn(3), want)
    assert torch.is_grad_enabled()
    lines = set()
    for seed in range(5):
        torch.manual_seed(seed)
        python_random.seed(seed)
        lines.add(verdict("vae.gaussian_kl", lambda mu, log_sigma: mu.sum(1))[1])
    assert len(lines) == 1


def test_closures_are_not_shared_with_the_check(verdict):
    """A function that destroys its inputs gets new ones at every call."""

    def destroys(mu, log_sigma):
        value = 0.5 * (mu**2 + (2 * log_sigma).exp() - 1 - 2 * log_sigma).sum(1)
        mu.fill_(math.nan), log_sigma.fill_(math.nan)
        return value

    assert verdict("vae.gaussian_kl", destroys)[0] == 2


def test_partial_credit(verdict):
    assert verdict("vae.iwae", lambda w: w.exp().mean(1).log())[0] == 1
    assert verdict("vae.kl_annealing", lambda step, warmup: step / warmup)[0] == 1
    assert verdict("vae.reparameterise", lambda mu, ls, eps: (mu + ls.exp() * eps).detach())[0] == 1


def test_strict_raises_the_line(capsys):
    with pytest.raises(AssertionError, match=r"✗ vae.iwae 0/2: that is the mean of the logarithms"):
        check("vae.iwae", lambda w: w.mean(1), strict=True)
    with pytest.raises(AssertionError, match="– vae.iwae not attempted"):
        check("vae.iwae", stub, strict=True)
    with pytest.raises(AssertionError, match="no such exercise"):
        check("vae.nothing", stub, strict=True)
    assert capsys.readouterr() == ("", "")
    assert check("vae.iwae", exercises()["vae.iwae"].reference, strict=True) == 2


def test_unknown_names(verdict):
    points, line = verdict("vae.elbow", stub)
    assert points == 0 and line.startswith("✗ vae.elbow: no such exercise; did you mean vae.elbo")
    assert verdict("zzzz", stub) == (0, "✗ zzzz: no such exercise")
    assert "name, then a function; got function" in verdict(stub, "vae.elbo")[1]


def test_ctrl_c_gets_through():
    def interrupted(log_w):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("vae.iwae", interrupted)


def test_a_terminal_without_unicode_gets_a_line_too(monkeypatch):
    class Ascii:
        encoding = "ascii"
        text = ""

        def write(self, text):
            self.text += text.encode("ascii").decode()

        def flush(self):
            pass

    monkeypatch.setattr(sys, "stdout", Ascii())
    assert check("vae.iwae", exercises()["vae.iwae"].reference) == 2
    assert sys.stdout.text == "? vae.iwae 2/2\n"
