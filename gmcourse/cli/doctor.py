"""`gmcourse doctor`: what the course finds on this machine, as facts and as a report."""

import json
import os
import platform
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
NEEDED = (
    "torch lightning-fabric numpy scipy scikit-learn POT torchdiffeq torchmetrics pooch tqdm typer rich safetensors "
    "matplotlib pillow jupyterlab ipykernel ipywidgets"
).split()
OPTIONAL = {
    "nbgrader": "to build and grade chapters",
    "voila": "to show a chapter as a page",
    "nbval": "for the tests",
}


def examine() -> dict:
    """Facts about versions, devices, data, weights and folders; `ok` is whether all that is needed is there."""
    packages = {name: _version(name) for name in (*NEEDED, *OPTIONAL)}
    facts = {
        "gmcourse": _version("gmcourse") or "from a folder",
        "python": platform.python_version(),
        "executable": sys.executable,
        "system": platform.platform(),
        "packages": packages,
        "devices": _devices() if packages["torch"] else {},
        "data": _data(),
        "weights": _weights(),
        "chapters": len(list((ROOT / "notebooks").glob("*.ipynb"))),
        "writable": {str(folder): _writable(folder) for folder in (Path.cwd(), _cache())},
    }
    missing = [f"package {name}" for name in NEEDED if packages[name] is None]
    missing += [f"data set {name}" for name, state in facts["data"].items() if state.startswith("missing")]
    missing += [f"write access to {folder}" for folder, yes in facts["writable"].items() if not yes]
    return facts | {"missing": missing, "ok": not missing}


def print_report(facts: dict, *, as_json: bool) -> None:
    """Print the facts of `examine`."""
    if as_json:
        print(json.dumps(facts))
        return
    table = Table(show_header=False, title="gmcourse doctor", title_justify="left")
    table.add_row("gmcourse", facts["gmcourse"])
    table.add_row("python", f"{facts['python']} ({facts['executable']})")
    table.add_row("system", facts["system"])
    versions = [f"{name} {version}" for name, version in facts["packages"].items() if version]
    table.add_row("packages", ", ".join(versions))
    for name, purpose in OPTIONAL.items():
        if facts["packages"][name] is None:
            table.add_row("", f"no {name}, needed only {purpose}")
    for section in ("devices", "data"):
        for k, (name, state) in enumerate(facts[section].items()):
            table.add_row("" if k else section, f"{name}: {state}")
    table.add_row("weights", ", ".join(facts["weights"]) or "none")
    table.add_row("chapters", str(facts["chapters"]))
    for k, (folder, yes) in enumerate(facts["writable"].items()):
        table.add_row("" if k else "folders", f"{folder}: {'writable' if yes else 'not writable'}")
    console = Console(highlight=False)
    console.print(table)
    console.print(
        "All that is needed is there." if facts["ok"] else f"Missing: {', '.join(facts['missing'])}."
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads of {os.cpu_count()} cores"}
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        gigabytes = torch.cuda.get_device_properties(k).total_memory / 1e9
        found[f"cuda:{k}"] = f"{torch.cuda.get_device_name(k)}, {gigabytes:.0f} GB"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _data() -> dict[str, str]:
    """The state of every image set that needs no folder of the user's; nothing is fetched."""
    from gmcourse.data import images
    from gmcourse.data.places import cache_folder
    from gmcourse.data.published import PUBLISHED

    states = {}
    for name in images.OFFLINE:
        try:
            images.load_images(name, "test", limit=1)
            states[name] = "there"
        except (OSError, ValueError) as error:
            states[name] = f"missing ({error})"
    for name, published in PUBLISHED.items():
        files = {file.name for split in published.files.values() for file in split}
        there = all((cache_folder(name) / file).is_file() for file in files)
        states[name] = f"fetched to {cache_folder(name)}" if there else "not fetched (optional)"
    return states


def _weights() -> list[str]:
    from gmcourse import zoo

    return list(zoo.NAMES)


def _cache() -> Path:
    """The folder for fetched data, or the nearest one above it that exists."""
    from gmcourse.data.places import cache_folder

    folder = cache_folder("mnist_full")
    return next(parent for parent in (folder, *folder.parents) if parent.is_dir())


def _writable(folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False
