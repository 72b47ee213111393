"""From the master of a chapter to the notebook that students open: `solutions/` → `notebooks/`.

    master ── released ──▶ without solutions and hidden tests ── executed ──▶ with outputs ──▶ saved, or not at all

`released` is pure, and a test compares it with what lies in `notebooks/`, so that the two cannot drift apart.
The clearing is done by nbgrader's own preprocessors: what stands between `### BEGIN SOLUTION` and
`### END SOLUTION` becomes a stub with the same indentation. The notebook is run in `notebooks/` as a student
runs it, then rid of what would differ from build to build, and its pictures made small.
"""

import base64
import copy
import io
import logging
import os
import re
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STUB = 'raise NotImplementedError("your turn")'
WIDGET = "application/vnd.jupyter.widget-view+json"


class BuildError(RuntimeError):
    """A chapter that can't be built; the message names the chapter, the cell and what happened there."""


def build(
    chapter: int | str | None = None, *, execute: bool = True, root: Path = ROOT, timeout: int = 600
) -> list[Path]:
    """Build one chapter (2, "02" or "02_vae") or all of them, and return the paths written.

    Prints the running time and the size of each. Without `execute` a notebook keeps its outputs as long as no
    code cell of its master has changed, and has none otherwise.

    Args:
        root: the folder that holds `solutions/` and `notebooks/`.
        timeout: seconds that one cell may take.

    Raises:
        ValueError: no such chapter.
        BuildError: chapters that failed, each with cell and traceback, after all have been tried; their
            notebooks are as they were.
    """
    written, failed = [], []
    for master in masters(chapter, root=root):
        try:
            written.append(_build_one(master, execute, timeout))
        except BuildError as error:
            failed.append(f"{master.stem}: {error}")
    if failed:
        raise BuildError("\n".join(failed))
    return written


def masters(chapter: int | str | None = None, *, root: Path = ROOT) -> list[Path]:
    """The master notebooks in order, or the one of a chapter in a list. Raises ValueError where there is none."""
    found = sorted((Path(root) / "solutions").glob("[0-9][0-9]_*.ipynb"))
    if chapter is not None:
        found, all_ = [p for p in found if p.stem == chapter or p.stem[:2] == f"{chapter:0>2}"], found
        known = ", ".join(p.stem for p in all_) or "none"
        wanted = f"chapter must be one of {known}; got {chapter!r}"
    else:
        wanted = f"no master notebooks in {Path(root) / 'solutions'}: build from a clone of the repository"
    if not found:
        raise ValueError(wanted)
    return found


def released(master):
    """The notebook as students get it, not yet run: solutions are stubs, hidden tests and outputs are gone.

    Takes and returns a NotebookNode; the master is left as it is. Raises BuildError for a solution or hidden
    test that is not closed or whose cell nbgrader does not know as such, ModuleNotFoundError where nbgrader
    is absent.
    """
    try:
        from nbgrader.preprocessors import ClearHiddenTests, ClearSolutions
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] != "nbgrader":
            raise
        raise ModuleNotFoundError(
            "building needs nbgrader: pip install 'gmcourse[teach]'", name="nbgrader"
        ) from None

    quiet = logging.Logger("gmcourse.build")
    quiet.addHandler(logging.NullHandler())  # it would print the whole cell besides raising
    steps = (
        ClearSolutions(code_stub={"python": STUB}, text_stub="*Your answer.*", log=quiet),
        ClearHiddenTests(log=quiet),
    )
    notebook = copy.deepcopy(master)
    for k, cell in enumerate(notebook.cells):
        for step in steps:
            try:
                step.preprocess_cell(cell, {"language": "python"}, k)
            except RuntimeError as error:
                raise BuildError(f"cell {cell.id}: {error}") from None
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return notebook


def _build_one(master: Path, execute: bool, timeout: int) -> Path:
    import nbformat

    target = master.parents[1] / "notebooks" / master.name
    notebook = released(nbformat.read(master, as_version=4))
    start = time.perf_counter()
    if execute:
        target.parent.mkdir(exist_ok=True)
        _execute(notebook, target.parent, timeout)
        _tidy(notebook)
    elif target.exists():
        _keep_outputs(notebook, nbformat.read(target, as_version=4))
    seconds = time.perf_counter() - start
    text = nbformat.writes(notebook) + "\n"
    _write(target, text)
    print(f"{master.stem}: {seconds:.1f} s, {len(text.encode()) / 1e6:.2f} MB", flush=True)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.get("name") == "stderr":
                print(f"  cell {cell.id} wrote to stderr: {output.text.strip()[-200:]}", flush=True)
    return target


def _execute(notebook, folder: Path, timeout: int) -> None:
    """Run all cells in a fresh kernel that finds this very gmcourse; BuildError at the first error."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    running = []
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=timeout,
        resources={"metadata": {"path": str(folder)}},
        store_widget_state=False,
        record_timing=False,
        coalesce_streams=True,
        extra_arguments=["--IPKernelApp.log_level=ERROR"],
        on_cell_start=lambda cell, cell_index: running.append(cell.id),
    )
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    try:
        client.execute(env={"OMP_NUM_THREADS": "1", **os.environ, "PYTHONPATH": path})
    except CellExecutionError as error:
        raise BuildError(f"cell {running[-1]} raised {_plain(str(error))}") from None
    except CellTimeoutError:
        raise BuildError(f"cell {running[-1]} ran for more than {timeout} s") from None
    except DeadKernelError:
        raise BuildError(f"the kernel died in cell {running[-1] if running else '(none)'}") from None


def _tidy(notebook) -> None:
    """Take out what only a live page can use and what differs from one build to the next."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        for output in cell.outputs:
            # A saved page has no such widget; left in, it would hide the still picture behind an error.
            if output.get("data", {}).pop(WIDGET, None) is not None and not _pictures(output):
                output.data.clear()
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = slim(output.data["image/png"])
        cell.outputs = [o for o in cell.outputs if o.get("data", True)]


def slim(png: str) -> str:
    """A PNG in base64 with at most 256 colours, on white: less than half the size for plots; as it was if not smaller."""
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    page = Image.new("RGB", picture.size, "white")
    page.paste(picture, mask=picture.getchannel("A"))
    file = io.BytesIO()
    page.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return min(png, base64.b64encode(file.getvalue()).decode(), key=len)


def _pictures(output) -> list[str]:
    return [mime for mime in output.data if mime.startswith("image/")]


def _keep_outputs(notebook, before) -> None:
    """Take the outputs over from an earlier build if every code cell is what it was."""
    new, old = ([c for c in n.cells if c.cell_type == "code"] for n in (notebook, before))
    if [(c.id, c.source) for c in new] == [(c.id, c.source) for c in old]:
        notebook.metadata = before.metadata
        for cell, previous in zip(new, old, strict=True):
            cell.outputs, cell.execution_count = previous.outputs, previous.execution_count


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).strip()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
