"""The form of the notebooks: masters are clean, built ones executed, small and quiet; each rule is shown to bite.

A rule takes a notebook (JSON) and yields what it finds wrong.
"""

import copy
import json
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = Path(__file__).parent / "fixture" / "solutions" / "02_tiny.ipynb"
MASTERS = sorted((ROOT / "solutions").glob("*.ipynb"))
BUILT = sorted((ROOT / "notebooks").glob("*.ipynb"))
CHECKED = "nbval-check-output"
LINES, MEGABYTES, CHECKED_CELLS = 25, 1.5, 5


def source(cell):
    return "".join(cell["source"])


def code(notebook):
    return [c for c in notebook["cells"] if c["cell_type"] == "code"]


def outputs(notebook):
    return [(c, o) for c in code(notebook) for o in c["outputs"]]


def text(cell):
    """What a cell printed or returned, as text."""
    pieces = [o.get("text", o.get("data", {}).get("text/plain", "")) for o in cell["outputs"]]
    return "\n".join("".join(p) for p in pieces)


def ids_are_unique(notebook):
    counts = Counter(c.get("id") for c in notebook["cells"])
    yield from (f"{n} cells have the id {k}" for k, n in counts.items() if n > 1 or k is None)


def code_cells_are_short(notebook):
    for c in code(notebook):
        if (n := source(c).count("\n") + 1) > LINES:
            yield f"{c['id']} has {n} lines"


def nothing_is_installed_or_fetched(notebook):
    for c in code(notebook):
        if any(
            line.lstrip().startswith(("!", "%pip", "%conda", "%%bash", "%%sh"))
            for line in source(c).splitlines()
        ):
            yield f"{c['id']} runs a shell command"


def results_are_compared(notebook):
    checked = [c for c in code(notebook) if CHECKED in c["metadata"].get("tags", ())]
    if len(checked) < CHECKED_CELLS:
        yield f"{len(checked)} cells are tagged {CHECKED}"


def no_outputs(notebook):
    for c in code(notebook):
        if c["outputs"] or c["execution_count"] is not None:
            yield f"{c['id']} has outputs or a number"


def solutions_are_known_to_nbgrader(notebook):
    for mark, role in (("BEGIN SOLUTION", "solution"), ("BEGIN HIDDEN TESTS", "grade")):
        for c in notebook["cells"]:
            if mark in source(c) and not c["metadata"].get("nbgrader", {}).get(role):
                yield f"{c['id']} has {mark} but no nbgrader metadata"


def checks_are_graded_by_their_points(notebook):
    """nbgrader gives full marks to a cell that ends without a number or an error: the last line must be the check."""
    for c in notebook["cells"]:
        if c["metadata"].get("nbgrader", {}).get("grade") and c["cell_type"] == "code":
            lines = [line for line in source(c).splitlines() if line and not line.startswith("#")]
            if not lines or not lines[-1].startswith(("check(", "assert check(")):
                yield f"{c['id']} is graded but does not end with check(…) or assert check(…, strict=True)"


def everything_ran_in_order(notebook):
    counts = [c["execution_count"] for c in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        yield f"execution counts are {counts}"


def no_errors(notebook):
    yield from (
        f"{c['id']} ended in {o['ename']}" for c, o in outputs(notebook) if o["output_type"] == "error"
    )


def no_stderr(notebook):
    yield from (
        f"{c['id']} wrote to stderr: {text(c)[:80]}"
        for c, o in outputs(notebook)
        if o.get("name") == "stderr"
    )


def no_widgets(notebook):
    if "widgets" in notebook["metadata"]:
        yield "widget state was saved"
    for c, o in outputs(notebook):
        if any("widget" in mime for mime in o.get("data", {})):
            yield f"{c['id']} shows a widget that a saved page does not have"


def no_addresses(notebook):
    yield from (f"{c['id']} prints an address in memory" for c in code(notebook) if " at 0x" in text(c))


def size_is_small(notebook):
    megabytes = len(json.dumps(notebook)) / 1e6
    if megabytes > MEGABYTES:
        yield f"{megabytes:.2f} MB"


def compared_cells_print(notebook):
    for c in code(notebook):
        if CHECKED in c["metadata"].get("tags", ()) and not text(c).strip():
            yield f"{c['id']} is compared but prints nothing"


def exercises_are_open(notebook):
    for c in code(notebook):
        if "BEGIN SOLUTION" in source(c) or "HIDDEN TESTS" in source(c):
            yield f"{c['id']} gives the solution away"
        if any(line.startswith(("✓", "✗")) for line in text(c).splitlines()):
            yield f"{c['id']} holds a verdict on a solution"


ALWAYS = (ids_are_unique, code_cells_are_short, nothing_is_installed_or_fetched, results_are_compared)
OF_MASTERS = (*ALWAYS, no_outputs, solutions_are_known_to_nbgrader, checks_are_graded_by_their_points)
OF_BUILT = (
    *ALWAYS,
    everything_ran_in_order,
    no_errors,
    no_stderr,
    no_widgets,
    no_addresses,
    size_is_small,
    compared_cells_print,
    exercises_are_open,
)


def findings(notebook, rules):
    return [finding for rule in rules for finding in rule(notebook)]


def rules_for(path, rules):
    """Chapter 0 may compare fewer results: there is little to compute in it."""
    return [r for r in rules if not (r is results_are_compared and path.name.startswith("00"))]


@pytest.mark.parametrize("path", MASTERS, ids=lambda p: p.stem)
def test_master(path):
    assert findings(json.loads(path.read_text("utf-8")), rules_for(path, OF_MASTERS)) == []


@pytest.mark.parametrize("path", BUILT, ids=lambda p: p.stem)
def test_built(path):
    assert findings(json.loads(path.read_text("utf-8")), rules_for(path, OF_BUILT)) == []


@pytest.fixture
def master():
    return json.loads(FIXTURE.read_text("utf-8"))


@pytest.fixture
def built(master):
    """The fixture as if it had been run."""
    notebook = copy.deepcopy(master)
    for k, c in enumerate(code(notebook)):
        c["execution_count"] = k + 1
        c["source"] = source(c).split("### BEGIN")[0]
        if CHECKED in c["metadata"].get("tags", ()):
            c["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["number 1\n"]}]
    return notebook


def test_a_good_chapter_passes(master, built):
    assert findings(master, OF_MASTERS) == []
    assert findings(built, OF_BUILT) == []


def spoil(notebook, **changes):
    """The last code cell, changed."""
    code(notebook)[-1].update(changes)
    return notebook


STDOUT = {"output_type": "stream", "name": "stdout"}
SPOILT = [
    (ids_are_unique, {"id": "imports"}),
    (ids_are_unique, {"id": None}),
    (code_cells_are_short, {"source": ["x = 1\n"] * 26}),
    (nothing_is_installed_or_fetched, {"source": "!wget data"}),
    (no_outputs, {"execution_count": 3}),
    (no_outputs, {"outputs": [{**STDOUT, "text": "1"}]}),
    (solutions_are_known_to_nbgrader, {"source": "### BEGIN SOLUTION\n### END SOLUTION"}),
    (solutions_are_known_to_nbgrader, {"source": "### BEGIN HIDDEN TESTS\n### END HIDDEN TESTS"}),
    (
        checks_are_graded_by_their_points,
        {"metadata": {"nbgrader": {"grade": True}}, "source": "points = check()"},
    ),
    (everything_ran_in_order, {"execution_count": None}),
    (no_errors, {"outputs": [{"output_type": "error", "ename": "ValueError"}]}),
    (no_stderr, {"outputs": [{**STDOUT, "name": "stderr", "text": "beware"}]}),
    (
        no_widgets,
        {
            "outputs": [
                {"output_type": "display_data", "data": {"application/vnd.jupyter.widget-view+json": 0}}
            ]
        },
    ),
    (
        no_addresses,
        {"outputs": [{"output_type": "execute_result", "data": {"text/plain": "<Axes at 0x7f00>"}}]},
    ),
    (size_is_small, {"outputs": [{**STDOUT, "text": "x" * 1_600_000}]}),
    (compared_cells_print, {"metadata": {"tags": [CHECKED]}, "outputs": []}),
    (exercises_are_open, {"source": "### BEGIN SOLUTION"}),
    (exercises_are_open, {"outputs": [{**STDOUT, "text": ["✓ vae.elbo 2/2\n"]}]}),
]


@pytest.mark.parametrize(("rule", "changes"), SPOILT, ids=lambda v: getattr(v, "__name__", None))
def test_each_rule_bites(rule, changes, built):
    assert findings(spoil(built, **changes), [rule])


def test_too_few_compared_cells_and_widget_state_are_found(built):
    built["cells"] = [c for c in built["cells"] if c.get("id") != "number-3"]
    built["metadata"]["widgets"] = {}
    assert findings(built, [results_are_compared]) == [f"4 cells are tagged {CHECKED}"]
    assert findings(built, [no_widgets]) == ["widget state was saved"]


def test_every_rule_has_been_shown_to_bite():
    assert {*OF_MASTERS, *OF_BUILT} == {rule for rule, _ in SPOILT} | {results_are_compared}
