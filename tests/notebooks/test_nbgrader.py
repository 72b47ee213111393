"""A class: nbgrader itself makes an assignment of a master notebook and grades what students hand in."""

import os
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

FIXTURE = Path(__file__).parent / "fixture" / "solutions" / "02_tiny.ipynb"
ANSWERS = {
    "unstable": ("return log_w.exp().mean(1).log()", 1),
    "solved": (
        "import sys; print(log_w, file=sys.stderr); return log_w.logsumexp(1) - math.log(log_w.shape[1])",
        3,
    ),
    "untouched": (None, 0),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Object of type <Submitted")
def test_students_get_the_points_of_their_checks(tmp_path, monkeypatch):
    """Full, partial and no points; what a student's function writes to stderr costs nothing."""
    from nbgrader.apps import NbGraderAPI
    from traitlets.config import Config

    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[2]))
    scripts = Path(sys.executable).parent  # nbgrader starts alembic by its bare name
    monkeypatch.setenv("PATH", f"{scripts}{os.pathsep}{os.environ['PATH']}")
    config = Config(
        {"CourseDirectory": {"root": str(tmp_path)}, "Exchange": {"root": str(tmp_path / "exchange")}}
    )
    api = NbGraderAPI(config=config)
    (tmp_path / "source" / "ch02").mkdir(parents=True)
    shutil.copy(FIXTURE, tmp_path / "source" / "ch02")
    assert api.generate_assignment("ch02")["success"]
    for student, (answer, points) in ANSWERS.items():
        hand_in(tmp_path, student, answer)
        graded = api.autograde("ch02", student)
        assert graded["success"], graded["log"]
        with api.gradebook as gradebook:
            submission = gradebook.find_submission("ch02", student)
            assert (submission.score, submission.max_score) == (points, 3), student


def hand_in(course, student, answer):
    """A student's copy of the released notebook, with the answer in place of the stub."""
    notebook = nbformat.read(course / "release" / "ch02" / "02_tiny.ipynb", as_version=4)
    (cell,) = [c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == "iwae"]
    stub = "# YOUR CODE HERE\n    raise NotImplementedError()"
    assert stub in cell.source and "logsumexp" not in nbformat.writes(notebook)
    if answer is not None:
        cell.source = cell.source.replace(stub, answer)
    folder = course / "submitted" / student / "ch02"
    folder.mkdir(parents=True)
    nbformat.write(notebook, folder / "02_tiny.ipynb")
