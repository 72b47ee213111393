"""What `gmcourse build` makes of a master, on a small chapter that has one of each thing; kernels are real."""

import base64
import io
import shutil
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from gmcourse import build as building
from gmcourse.build import BuildError, build, masters, released, slim

FIXTURE = Path(__file__).parent / "notebooks" / "fixture"


@pytest.fixture
def course(tmp_path):
    """A course of one chapter in a folder of its own."""
    shutil.copytree(FIXTURE / "solutions", tmp_path / "solutions")
    return tmp_path


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The chapter, built once."""
    root = tmp_path_factory.mktemp("course")
    shutil.copytree(FIXTURE / "solutions", root / "solutions")
    return build(root=root)[0]


def read(path):
    return nbformat.read(path, as_version=4)


def cells(notebook):
    return {cell.id: cell for cell in notebook.cells}


def change(course, cell_id, source, **metadata):
    path = course / "solutions" / "02_tiny.ipynb"
    notebook = read(path)
    cell = cells(notebook)[cell_id]
    cell.source = source
    cell.metadata.update(metadata)
    nbformat.write(notebook, path)


def test_solutions_become_stubs_that_still_compile():
    master = read(FIXTURE / "solutions" / "02_tiny.ipynb")
    before = nbformat.writes(master)
    stub = cells(released(master))["iwae"].source
    assert stub.splitlines()[-1] == '    raise NotImplementedError("your turn")'
    assert "logsumexp" not in stub and "SOLUTION" not in stub
    compile(stub, "stub", "exec")
    assert nbformat.writes(master) == before


def test_hidden_tests_go_and_all_else_stays():
    master = read(FIXTURE / "solutions" / "02_tiny.ipynb")
    notebook = released(master)
    assert cells(notebook)["all-of-iwae"].source == 'print("One more point for a full solution.")'
    assert [c.id for c in notebook.cells] == [c.id for c in master.cells]
    untouched = set(cells(master)) - {"iwae", "all-of-iwae"}
    assert all(cells(notebook)[k].source == cells(master)[k].source for k in untouched)
    assert [c.metadata for c in notebook.cells] == [c.metadata for c in master.cells]


def test_outputs_of_a_master_are_not_handed_out():
    master = read(FIXTURE / "solutions" / "02_tiny.ipynb")
    cell = cells(master)["number-1"]
    cell.outputs, cell.execution_count = [nbformat.v4.new_output("stream", text="old")], 7
    assert cells(released(master))["number-1"].outputs == []
    assert cells(released(master))["number-1"].execution_count is None


@pytest.mark.parametrize(
    ("source", "metadata", "message"),
    [
        ("### BEGIN SOLUTION\nx = 1", {}, "cell number-1: no end solution"),
        (
            "### BEGIN SOLUTION\nx = 1\n### END SOLUTION",
            {},
            "cell number-1: Solution region detected in a non-sol",
        ),
        ("### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS", {}, "cell number-1: Hidden test region"),
    ],
)
def test_masters_that_nbgrader_would_refuse(course, source, metadata, message, capfd):
    change(course, "number-1", source, **metadata)
    with pytest.raises(BuildError, match=f"02_tiny: {message}"):
        build(root=course)
    assert not (course / "notebooks" / "02_tiny.ipynb").exists()
    assert capfd.readouterr() == ("", "")


def test_nbgrader_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "nbgrader.preprocessors", None)
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'gmcourse\[teach\]'"):
        released(read(FIXTURE / "solutions" / "02_tiny.ipynb"))


def test_built_notebook_is_executed_in_its_folder(built):
    notebook = read(built)
    nbformat.validate(notebook)
    assert built.parent.name == "notebooks"
    assert cells(notebook)["here"].outputs[0].text == "notebooks\n"
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
    assert cells(notebook)["check-iwae"].outputs[0].text == "– vae.iwae not attempted\n"


def test_saved_outputs_hold_no_dead_widgets_and_no_noise(built):
    notebook = read(built)
    (still,) = cells(notebook)["still"].outputs  # the bar without a picture is gone
    assert set(still.data) == {"image/png", "text/plain"}
    assert cells(notebook)["bar"].outputs[0].text == "step 3\n"
    assert "widgets" not in notebook.metadata
    assert "version" not in notebook.metadata.language_info
    assert all("execution" not in c.metadata for c in notebook.cells)


def test_pictures_are_made_small_without_being_changed_to_the_eye():
    """A density in a colour map with points on it: far fewer bytes, and hardly another pixel."""
    y, x = np.mgrid[-2:2:200j, -2:2:300j]
    figure = Figure(figsize=(4, 3))
    ax = figure.add_subplot()
    ax.imshow(np.exp(-(x**2) - y**2), extent=(-2, 2, -2, 2), cmap="Blues")
    ax.plot(*np.random.default_rng(0).normal(size=(2, 300)), ".")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    before = base64.b64encode(file.getvalue()).decode()
    after = slim(before)
    pages = [np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB"), float) for png in (before, after)]
    assert len(after) < 0.6 * len(before) and pages[0].shape == pages[1].shape
    assert np.abs(pages[0] - pages[1]).mean() < 2 and np.quantile(np.abs(pages[0] - pages[1]), 0.99) < 20
    assert len(slim(after)) <= len(after)


def test_the_same_master_gives_the_same_file(course, built, capsys):
    (again,) = build("02_tiny", root=course)
    assert again.read_bytes() == built.read_bytes()
    out, err = capsys.readouterr()
    assert out.startswith("02_tiny: ") and out.endswith(" MB\n") and err == ""


def test_an_error_names_cell_and_traceback_and_overwrites_nothing(course, built):
    target = course / "notebooks" / "02_tiny.ipynb"
    target.parent.mkdir()
    shutil.copy(built, target)
    change(course, "number-2", "half = 1 / 0")
    with pytest.raises(
        BuildError, match="(?s)02_tiny: cell number-2 raised .*half = 1 / 0.*ZeroDivisionError"
    ) as caught:
        build(root=course)
    assert "\x1b" not in str(caught.value)
    assert target.read_bytes() == built.read_bytes()
    assert [p.name for p in target.parent.iterdir()] == ["02_tiny.ipynb"]


def test_a_cell_that_takes_too_long_is_named(course):
    change(course, "number-2", "import time\ntime.sleep(60)")
    with pytest.raises(BuildError, match="02_tiny: cell number-2 ran for more than 3 s"):
        change(course, "imports", "")
        change(course, "check-iwae", "")
        build(root=course, timeout=3)


def test_a_dead_kernel_is_reported_and_stderr_too(course, capsys):
    for cell in ("imports", "check-iwae", "still", "here"):
        change(course, cell, "")
    change(course, "number-1", "import sys\nprint('first\\nbeware', file=sys.stderr)")
    build(root=course)
    assert "cell number-1 wrote to stderr: first\nbeware" in capsys.readouterr().out
    change(course, "number-2", "import os\nos._exit(1)")
    with pytest.raises(BuildError, match="02_tiny: the kernel died in cell number-2"):
        build(root=course)


def test_other_chapters_are_built_although_one_fails(course, monkeypatch):
    shutil.copy(course / "solutions" / "02_tiny.ipynb", course / "solutions" / "03_other.ipynb")
    change(course, "number-1", "### BEGIN SOLUTION")
    with pytest.raises(BuildError, match="02_tiny: cell number-1"):
        build(root=course, execute=False)
    assert (course / "notebooks" / "03_other.ipynb").exists()


def test_without_execution_outputs_are_kept_while_no_code_has_changed(course, built):
    target = course / "notebooks" / "02_tiny.ipynb"
    target.parent.mkdir()
    shutil.copy(built, target)
    change(course, "look", "## What is seen, and how")
    build(2, execute=False, root=course)
    notebook = read(target)
    assert cells(notebook)["look"].source == "## What is seen, and how"
    assert cells(notebook)["here"].outputs == cells(read(built))["here"].outputs
    change(course, "number-5", "print('number', 6)")
    build(2, execute=False, root=course)
    assert not any(c.get("outputs") for c in read(target).cells)


@pytest.mark.parametrize("chapter", [2, "2", "02", "02_tiny"])
def test_chapters_by_number_or_name(course, chapter):
    assert [p.stem for p in masters(chapter, root=course)] == ["02_tiny"]


def test_unknown_chapter_and_empty_folder(course, tmp_path_factory):
    with pytest.raises(ValueError, match="chapter must be one of 02_tiny; got 7"):
        build(7, root=course)
    with pytest.raises(ValueError, match="no master notebooks in .*solutions: build from a clone"):
        build(root=tmp_path_factory.mktemp("nothing"))


def test_one_thread_unless_said_otherwise(course, monkeypatch):
    for cell in ("imports", "check-iwae", "still"):
        change(course, cell, "")
    change(
        course,
        "here",
        "import os\nprint(os.environ['OMP_NUM_THREADS'], os.environ['PYTHONPATH'].split(os.pathsep)[0])",
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert cells(read(build(root=course)[0]))["here"].outputs[0].text == f"1 {building.ROOT}\n"
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert cells(read(build(root=course)[0]))["here"].outputs[0].text.startswith("2 ")
