"""`notebooks/` is what `gmcourse build` makes of `solutions/`: the same cells with the same ids, types, sources and tags."""

import copy
from pathlib import Path

import nbformat
import pytest

from gmcourse.build import released

ROOT = Path(__file__).resolve().parents[2]
FIXTURE = Path(__file__).parent / "fixture" / "solutions" / "02_tiny.ipynb"
NAMES = sorted(
    {p.name for folder in ("solutions", "notebooks") for p in (ROOT / folder).glob("[0-9][0-9]_*.ipynb")}
)


def drift(master, built):
    """How a built notebook differs from what its master would give now, outputs aside."""
    wanted, found = ([_essence(c) for c in n.cells] for n in (released(master), built))
    if [w["id"] for w in wanted] != [f["id"] for f in found]:
        return [f"cells are {[f['id'] for f in found]}, wanted {[w['id'] for w in wanted]}"]
    return [
        f"cell {w['id']} has another {key}"
        for w, f in zip(wanted, found, strict=True)
        for key in w
        if w[key] != f[key]
    ]


def _essence(cell):
    return {
        "id": cell.id,
        "type": cell.cell_type,
        "source": cell.source,
        "tags": cell.metadata.get("tags", []),
    }


@pytest.mark.parametrize("name", NAMES)
def test_chapter_has_not_drifted(name):
    """Mend with `gmcourse build NN` (or `--no-execute` where only text has changed)."""
    master, built = (
        nbformat.read(ROOT / folder / name, as_version=4) for folder in ("solutions", "notebooks")
    )
    assert drift(master, built) == []


@pytest.fixture
def pair():
    master = nbformat.read(FIXTURE, as_version=4)
    return master, released(master)


def test_a_fresh_build_has_not_drifted(pair):
    assert drift(*pair) == []
    pair[1].cells[1].outputs = [nbformat.v4.new_output("stream", text="1")]
    assert drift(*pair) == []


@pytest.mark.parametrize(
    ("key", "value"), [("source", "x = 2"), ("cell_type", "raw"), ("metadata", {"tags": ["new"]})]
)
def test_a_changed_cell_is_named(pair, key, value):
    master, built = pair
    cell = built.cells[-1]
    cell[key] = nbformat.from_dict(value) if isinstance(value, dict) else value
    (found,) = drift(master, built)
    assert found.startswith("cell here has another ")


def test_lost_added_and_moved_cells_are_found(pair):
    master, built = pair
    for cells in (built.cells[1:], [*built.cells, nbformat.v4.new_code_cell("")], built.cells[::-1]):
        changed = copy.deepcopy(built)
        changed.cells = cells
        assert drift(master, changed)
