"""Every solution in a master notebook earns all points of the checks that stand in the same notebook.

The solution cells run with the notebook's imports and nothing else, so that no exercise depends on what came before it.
"""

import ast
import json
from pathlib import Path

import pytest

from gmcourse.exercises import check, exercises

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = ROOT / "tests" / "notebooks" / "fixture" / "solutions" / "02_tiny.ipynb"
MASTERS = [*sorted((ROOT / "solutions").glob("[0-9][0-9]_*.ipynb")), FIXTURE]


def code_cells(path):
    """Sources of the code cells, without lines that only IPython understands."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    sources = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    return ["\n".join(line for line in s.splitlines() if not line.startswith(("%", "!"))) for s in sources]


def imports(sources):
    nodes = [
        node for s in sources for node in ast.parse(s).body if isinstance(node, (ast.Import, ast.ImportFrom))
    ]
    return ast.unparse(ast.Module(nodes, []))


def checks(sources):
    """(exercise, name of the student's function) of every `check("…", fn)`."""
    calls = [node for s in sources for node in ast.walk(ast.parse(s)) if isinstance(node, ast.Call)]
    return sorted(
        {(c.args[0].value, ast.unparse(c.args[1])) for c in calls if ast.unparse(c.func) == "check"}
    )


def graded(path):
    """(cell, points of the cell, exercise) of every graded cell whose last expression is a check."""
    for c in json.loads(path.read_text("utf-8"))["cells"]:
        grading = c["metadata"].get("nbgrader", {})
        if grading.get("grade") and c["cell_type"] == "code":
            last = ast.parse("".join(c["source"])).body[-1]
            if isinstance(last, ast.Expr):
                yield c["id"], grading["points"], last.value.args[0].value


def solve(sources):
    """A namespace in which the imports and the solution cells have run."""
    namespace = {"__name__": "__main__"}
    exec(imports(sources), namespace)
    for s in sources:
        if "### BEGIN SOLUTION" in s:
            exec(s, namespace)
    return namespace


@pytest.mark.parametrize("path", MASTERS, ids=lambda p: p.stem)
def test_solutions_earn_all_points(path, capsys):
    sources = code_cells(path)
    asked, namespace = checks(sources), solve(sources)
    for name, function in asked:
        points = check(name, namespace[function])
        out, err = capsys.readouterr()
        assert points == exercises()[name].points, out
        assert err == ""
    solved = {
        n.name for s in sources if "### BEGIN SOLUTION" in s for n in ast.parse(s).body if hasattr(n, "name")
    }
    assert solved == {function for _, function in asked}, (
        "each solution has its check and each check its solution"
    )


@pytest.mark.parametrize("path", MASTERS, ids=lambda p: p.stem)
def test_cells_are_worth_the_points_of_their_exercise(path):
    """nbgrader refuses to grade a cell that returns more points than it is worth."""
    assert [(c, p) for c, p, name in graded(path) if p != exercises()[name].points] == []


@pytest.mark.parametrize("path", MASTERS[:-1], ids=lambda p: p.stem)
def test_every_exercise_of_the_chapter_is_set(path):
    registered = {n for n, e in exercises().items() if f".ch{path.stem[:2]}" in e.reference.__module__}
    assert {name for name, _ in checks(code_cells(path))} == registered


def test_a_cell_worth_other_points_is_found(tmp_path):
    spoilt = tmp_path / "02_tiny.ipynb"
    spoilt.write_text(FIXTURE.read_text("utf-8").replace('"points": 2', '"points": 1'), "utf-8")
    with pytest.raises(AssertionError, match="check-iwae"):
        test_cells_are_worth_the_points_of_their_exercise(spoilt)


def test_a_wrong_solution_in_a_master_is_found(tmp_path, capsys):
    text = FIXTURE.read_text("utf-8").replace("log_w.logsumexp(1) - math", "log_w.logsumexp(1) + math")
    spoilt = tmp_path / "02_tiny.ipynb"
    spoilt.write_text(text, "utf-8")
    with pytest.raises(AssertionError, match="✗ vae.iwae 0/2"):
        test_solutions_earn_all_points(spoilt, capsys)
