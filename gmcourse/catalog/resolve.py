"""Does what a row refers to exist? Code is imported, headings are read from the notebooks, tests from their files."""

import ast
import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path

from gmcourse.catalog.row import Row

ROOT = Path(__file__).resolve().parents[2]


def resolve(row: Row, root: Path = ROOT) -> None:
    """Check every reference that the row gives.

    Raises LookupError naming the row, the field, the reference and what is not there.
    """
    ways = {"code": _code, "section": _section, "exercise": _practice, "explorer": _code, "test": _test}
    for field, way in ways.items():
        reference = getattr(row, field)
        if reference is not None and (problem := way(reference, Path(root))):
            raise LookupError(f"{row.id}: {field} {reference!r}: {problem}")


def slug(heading: str) -> str:
    """The anchor of a heading: lower case, spaces as hyphens, other punctuation dropped.

    >>> slug("What goes wrong: the *prior hole*")
    'what-goes-wrong-the-prior-hole'
    """
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _code(reference: str, root: Path) -> str | None:
    module, _, path = reference.partition(":")
    if not path:
        return "wanted the form 'gmcourse.module:object'"
    try:
        found = import_module(module)
    except ImportError as error:
        return f"no such module ({error})"
    for name in path.split("."):
        if not hasattr(found, name):
            return f"{module} has no {path}"
        found = getattr(found, name)
    return None if callable(found) else f"{path} is {type(found).__name__}, wanted a class or function"


def _section(reference: str, root: Path) -> str | None:
    notebook, _, anchor = reference.partition("#")
    if not anchor:
        return "wanted the form '02_vae#heading'"
    path = root / "notebooks" / f"{notebook}.ipynb"
    if not path.is_file():
        return f"no notebook {path}"
    known = _anchors(path, path.stat().st_mtime_ns)
    return None if anchor in known else f"no such heading; there are {', '.join(known)}"


def _practice(reference: str, root: Path) -> str | None:
    if "#" in reference:
        return _section(reference, root)
    from gmcourse.exercises import exercises

    return None if reference in exercises() else "no such exercise"


def _test(reference: str, root: Path) -> str | None:
    file, *names = reference.split("::")
    if not names:
        return "wanted the form 'tests/vae/test_bounds.py::test_name'"
    if not (root / file).is_file():
        return f"no file {root / file}"
    scope = ast.parse((root / file).read_text("utf-8")).body
    for name in names:
        found = [node for node in scope if getattr(node, "name", None) == name]
        if not found:
            return f"{file} has no {'::'.join(names)}"
        scope = found[0].body
    return None


@cache
def _anchors(path: Path, changed: int) -> tuple[str, ...]:
    """Anchors of all headings of a notebook; `changed` makes an edited one be read again."""
    cells = json.loads(path.read_text("utf-8"))["cells"]
    text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    prose = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)
    return tuple(slug(heading) for heading in re.findall(r"^#{1,6} +(.+?) *#*$", prose, flags=re.M))
