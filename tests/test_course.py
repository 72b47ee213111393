"""course.py: what it decides, what it says and what it runs, without making an environment."""

import argparse
import ast
import importlib.util
import io
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

COURSE = Path(__file__).resolve().parents[1] / "course.py"
BARE = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
spec = importlib.util.spec_from_file_location("course", COURSE)
course = importlib.util.module_from_spec(spec)
spec.loader.exec_module(course)


@pytest.fixture
def root(tmp_path):
    """A small project with one file of each kind."""
    for name, text in {
        "pyproject.toml": "[project]\nname = 'small'\n",
        "constraints.txt": "numpy==2.4.6\n",
        "gmcourse/__init__.py": "",
        "tests/test_all.py": "import pytest\n\ndef test_good(): pass\n\ndef test_bad(): assert False\n\n"
        "@pytest.mark.skip(reason='no chalk')\ndef test_left_out(): pass\n",
        "tests/browser/test_page.py": "",
        "notebooks/00_start_here.ipynb": "{}",
        "notebooks/02_vae.ipynb": "{}",
    }.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def pretend_environment(root, stamp):
    python = course.python_of(root / ".venv")
    python.parent.mkdir(parents=True)
    python.touch()
    if stamp is not None:
        course.write_stamp(root / ".venv", stamp)


# An old Python, a Python without venv, a course without notebooks


def test_an_old_python_is_told_what_is_needed():
    code = "import runpy, sys; sys.version_info = (3, 8, 2); runpy.run_path(sys.argv[1], run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code, str(COURSE), "lab"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert done.stderr.startswith("course.py: gmcourse needs Python 3.11 or newer, and this is Python 3.8")
    assert done.stderr.count("\n") == 1


def test_even_python_2_can_read_the_file():
    """Nothing of the grammar that came after Python 2.7 is used."""
    source = COURSE.read_text("utf-8")
    assert source.isascii()
    newer = (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Starred, ast.AsyncFunctionDef, ast.Nonlocal)
    for node in ast.walk(ast.parse(source)):
        assert not isinstance(node, newer), ast.unparse(node)
        if isinstance(node, ast.Raise):
            assert node.cause is None
        if isinstance(node, ast.arguments):
            assert not node.kwonlyargs and not node.posonlyargs
            assert all(a.annotation is None for a in node.args)


def test_a_python_without_venv_is_told_what_brings_it(root, monkeypatch):
    monkeypatch.setattr(course, "find_spec", lambda name: None if name == "ensurepip" else object())
    with pytest.raises(course.CourseError, match="lacks its module ensurepip.*python3-venv"):
        course.make_venv(root / ".venv")
    assert not (root / ".venv").exists()


def test_missing_notebooks_are_named_before_anything_is_installed(tmp_path):
    shutil.copy(COURSE, tmp_path)
    command = [sys.executable, str(tmp_path / "course.py"), "lab"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("course.py: notebooks/00_start_here.ipynb is missing")
    assert not (tmp_path / ".venv").exists()


# What is installed and what should be


@pytest.mark.parametrize(
    ("change", "exists", "expected"),
    [
        ({}, True, "nothing"),
        ({}, False, "rebuild"),
        ({"finished": False}, True, "rebuild"),
        ({"python": "3.14"}, True, "rebuild"),
        ({"root": "/elsewhere"}, True, "rebuild"),
        ({"requirements": "other"}, True, "install"),
        ({"extras": []}, True, "install"),
        ({"extras": ["teach", "test"]}, True, "nothing"),
    ],
)
def test_step(root, change, exists, expected):
    want = course.wanted(root, ["test"])
    assert course.step({**want, **change}, want, exists) == expected


def test_an_environment_made_by_hand_is_installed_into_not_removed(root):
    pretend_environment(root, None)
    assert course.read_stamp(root / ".venv") is None
    assert course.step(None, course.wanted(root, []), True) == "install"


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_is_noticed(root, name):
    before = course.wanted(root, [])
    (root / name).write_text("changed")
    assert course.step(before, course.wanted(root, []), True) == "install"


def test_a_stamp_survives_writing_and_a_spoilt_one_counts_as_unfinished(root):
    pretend_environment(root, course.wanted(root, ["test"]))
    assert course.read_stamp(root / ".venv") == course.wanted(root, ["test"])
    course.stamp_file(root / ".venv").write_text('{"finished": tr')
    assert course.read_stamp(root / ".venv") == course.UNFINISHED


def test_the_second_start_runs_no_other_program(root, monkeypatch):
    pretend_environment(root, course.wanted(root, ["test"]))
    monkeypatch.setattr(course.subprocess, "run", None)
    monkeypatch.setattr(course.subprocess, "Popen", None)
    assert course.prepare(root) == course.python_of(root / ".venv")


def test_an_interrupted_installation_stays_marked_and_the_next_finishes_it(root, monkeypatch):
    pretend_environment(root, {**course.wanted(root, []), "requirements": "older"})
    calls = []

    def interrupted(root, python, extras):
        calls.append(extras)
        raise KeyboardInterrupt

    monkeypatch.setattr(course, "install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        course.prepare(root, ["test"])
    assert course.read_stamp(root / ".venv") == course.UNFINISHED
    monkeypatch.setattr(course, "install", lambda root, python, extras: calls.append(extras))
    monkeypatch.setattr(course, "make_venv", lambda venv: calls.append("rebuilt"))
    monkeypatch.setattr(course.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, ""))
    course.prepare(root, ["test"])
    assert calls == [["test"], "rebuilt", ["test"]]
    assert course.read_stamp(root / ".venv") == course.wanted(root, ["test"])


def test_extras_once_installed_stay(root, monkeypatch):
    pretend_environment(root, {**course.wanted(root, ["test"]), "requirements": "older"})
    monkeypatch.setattr(course, "install", lambda root, python, extras: None)
    monkeypatch.setattr(course.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, ""))
    course.prepare(root)
    assert course.read_stamp(root / ".venv")["extras"] == ["test"]


# Commands


def test_pythons_place_in_an_environment():
    assert course.python_of("v", windows=True) == Path("v", "Scripts", "python.exe")
    assert course.python_of("v", windows=False) == Path("v", "bin", "python")


def test_install_command(tmp_path):
    command = course.install_command(tmp_path, "py", ["teach", "test"])
    assert command[:4] == ["py", "-m", "pip", "install"]
    assert command[-4:] == ["-c", str(tmp_path / "constraints.txt"), "-e", ".[teach,test]"]
    assert course.install_command(tmp_path, "py", [])[-1] == "."


def test_lab_command(tmp_path):
    command = course.lab_command(tmp_path, "py", 8899, browser=False, as_root=True)
    assert command[:3] == ["py", "-m", "jupyterlab"]
    assert {"--ip=127.0.0.1", "--port=8899", "--no-browser", "--allow-root"} <= set(command)
    assert "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb" in command
    assert not any("token" in part or "password" in part for part in command)
    plain = course.lab_command(tmp_path, "py", 8888, browser=True, as_root=False)
    assert "--no-browser" not in plain and "--allow-root" not in plain


def test_parts_run_everything_once(root):
    unit, notebooks, browser = course.parts(root, "py")
    assert [part.name for part in (unit, notebooks, browser)] == ["unit", "notebooks", "browser"]
    assert unit.command[-2:] == ["gmcourse", "tests"]
    assert {"--doctest-modules", "not browser", "loadscope"} <= set(unit.command)
    assert [Path(p).name for p in notebooks.command[-2:]] == ["00_start_here.ipynb", "02_vae.ipynb"]
    assert {"--nbval-lax", "--nbval-current-env", "loadscope"} <= set(notebooks.command)
    assert not any("sanitize" in argument for argument in notebooks.command)
    assert browser.command[-3:] == ["-m", "browser", "tests/browser"] and "-n" not in browser.command
    assert {part.environment["OMP_NUM_THREADS"] for part in (unit, notebooks, browser)} == {"1"}
    assert "MPLBACKEND" not in notebooks.environment


def test_parts_that_are_not_there_are_left_out(root):
    shutil.rmtree(root / "notebooks")
    shutil.rmtree(root / "tests" / "browser")
    assert [part.name for part in course.parts(root, "py")] == ["unit"]
    assert course.parts(root, "py", only="browser") == []


def test_a_sanitize_file_is_used(root):
    (root / "tests" / "notebooks").mkdir()
    (root / "tests" / "notebooks" / "sanitize.cfg").touch()
    (part,) = course.parts(root, "py", only="notebooks")
    assert f"--nbval-sanitize-with={root / 'tests' / 'notebooks' / 'sanitize.cfg'}" in part.command


def test_paths_choose_their_part_and_the_rest_goes_to_pytest(root):
    (part,) = course.parts(root, "py", arguments=["tests/test_all.py::test_good", "-k", "good", "-x"])
    assert part.name == "unit"
    assert part.command[-4:] == ["-k", "good", "-x", "tests/test_all.py::test_good"]
    (part,) = course.parts(root, "py", arguments=["notebooks/02_vae.ipynb"])
    assert part.name == "notebooks" and part.command[-1] == "notebooks/02_vae.ipynb"
    (part,) = course.parts(root, "py", arguments=["tests/browser"])
    assert part.name == "browser"
    deselect = ["--deselect", "tests/test_all.py"]
    assert [deselect[1] in part.command for part in course.parts(root, "py", arguments=deselect)] == [True] * 3
    (part,) = course.parts(root, "py", arguments=["tests/test_misspelt.py"])
    assert part.command[-1] == "tests/test_misspelt.py"


def test_options(root):
    lab = course.parse(["lab", "--port", "9000", "--no-browser"])
    assert (lab.run, lab.port, lab.browser, lab.here) == (course.lab, 9000, False, False)
    test = course.parse(["test", "--only", "unit", "-k", "vae", "-x", "tests/vae"])
    assert (test.run, test.only, test.arguments) == (course.test, "unit", ["-k", "vae", "-x", "tests/vae"])


@pytest.mark.parametrize(
    "line", [[], ["lap"], ["lab", "--prot", "1"], ["lab", "--port", "x"], ["lab", "--port", "70000"]]
)
def test_a_wrong_command_line_is_refused(line, capsys):
    with pytest.raises(SystemExit) as stop:
        course.parse(line)
    assert stop.value.code == 2
    assert "course.py" in capsys.readouterr().err


def test_a_port_out_of_range_is_named():
    with pytest.raises(argparse.ArgumentTypeError, match="between 1 and 65535; got 70000"):
        course.port("70000")


# Running and counting


def test_a_part_is_run_and_counted(root, capfd):
    command = [sys.executable, "-m", "pytest", "-q", "tests/test_all.py"]
    result = course.run_part(root, course.Part("unit", command, BARE))
    assert result.counts == {"passed": 1, "failed": 1, "skipped": 1}
    assert result.reasons == {"no chalk": 1}
    text = course.summary([result, result._replace(name="more", counts=Counter(passed=4))])
    assert text.splitlines()[-1] == "course: 5 passed, 1 failed, 1 skipped"
    assert "SKIPPED 1: no chalk" in text
    assert course.exit_code([result]) == 1
    assert "1 failed, 1 passed, 1 skipped" in capfd.readouterr().out


def test_a_breakdown_of_pytest_is_a_failure(root):
    command = [sys.executable, "-m", "pytest", "--no-such-option"]
    result = course.run_part(root, course.Part("unit", command, BARE))
    assert result.counts["failed"] == 1 and course.exit_code([result]) == 1


def test_exit_codes():
    def result(**counts):
        return course.Result("unit", Counter(counts), Counter(), 0, 1.0)

    assert course.exit_code([result(passed=2), result()]) == 0
    assert course.exit_code([result(passed=2), result(failed=1)]) == 1
    assert course.exit_code([result(skipped=3)]) == course.NO_TESTS
    assert course.exit_code([]) == course.NO_TESTS


# What is shown while pip works


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("WARNING: Retrying ... NewConnectionError('Failed to connect')", "connect to the network"),
        ("Temporary failure in name resolution", "connect to the network"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("error: subprocess-exited-with-error", ".venv/install.log"),
    ],
)
def test_why_pip_failed(log, expected):
    assert expected in course.reason(log)


def test_progress_outside_a_terminal_is_a_line_now_and_then(monkeypatch):
    monkeypatch.setattr(course.shutil, "which", lambda name: None)
    out = io.StringIO()
    ticker = course.Ticker(out, every=0)
    ticker.show("Collecting numpy>=2 (from gmcourse)\n")
    ticker.show("Collecting nvidia-cudnn (from torch)\n")
    ticker.show("Collecting nvidia-nccl (from torch)\n")
    lines = out.getvalue().splitlines()
    assert lines[0].endswith("s  Collecting numpy>=2")
    assert [("A smaller PyTorch" in line) for line in lines] == [False, True, False, False]


def test_progress_in_a_terminal_is_one_moving_line():
    out = io.StringIO()
    out.isatty = lambda: True
    ticker = course.Ticker(out)
    ticker.show("  Downloading torch.whl (190 MB)\n")
    ticker.show("")
    shown = out.getvalue()
    assert "\n" not in shown and shown.count(course.CLEAR) == 2
    assert shown.endswith("Downloading torch.whl (190 MB)")


def test_a_failed_installation_says_why_in_one_sentence(root, monkeypatch, capsys):
    pretend_environment(root, None)
    pip = [sys.executable, "-c", "print('NameResolutionError: no such host'); raise SystemExit(1)"]
    monkeypatch.setattr(course, "install_command", lambda root, python, extras: pip)
    with pytest.raises(course.CourseError, match="connect to the network"):
        course.prepare(root)
    assert "NameResolutionError" in capsys.readouterr().out
    assert "NameResolutionError" in (root / ".venv" / "install.log").read_text()
    assert json.loads((root / ".venv" / "gmcourse.json").read_text()) == course.UNFINISHED
