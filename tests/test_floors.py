"""The house has floors and imports go down only; read off the source, so that none can hide in a function."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "gmcourse"
FAMILIES = {"vae", "flows", "ebm", "diffusion", "gan"}
FLOORS = (
    {"version", "model", "data", "nets", "sampling", "randomness"},
    {"fit", "training", "checkpoint", "metrics", "classifier", "density_ratio", "mixture"} | FAMILIES,
    {"compositions", "viz"},
    {"zoo", "recipes", "scoreboard"},
    {"catalog", "exercises", "build", "cli"},
    {PACKAGE, "__main__"},
)
DYNAMIC = ("import_module", "__import__")
FLOOR = {unit: height for height, units in enumerate(FLOORS) for unit in units}


def sources() -> dict[str, str]:
    """Dotted name of every module of the package -> its source; a package's own name ends in `.__init__`."""
    files = Path(ROOT, PACKAGE).rglob("*.py")
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file.read_text("utf-8") for file in files}


def unit(name: str) -> str:
    """The part of the house a dotted name belongs to: `gmcourse.vae.bounds` to `vae`; `gmcourse` is top."""
    parts = name.split(".")
    inside = len(parts) > 1 and parts[1] != "__init__"
    return parts[1] if inside else PACKAGE


def imports(module: str, source: str) -> set[str]:
    """Units of the package that a module imports, by whatever spelling, at the top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: -node.level] if node.level else []
            origin = ".".join(base + ([node.module] if node.module else []))
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                found.add(full if unit(full) in FLOOR else origin)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(DYNAMIC):
            found |= {argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant)}
    return {unit(name) for name in found if name.split(".")[0] == PACKAGE}


def violations(modules: dict[str, str]) -> list[str]:
    """What breaks the rule, as sentences."""
    broken = []
    for module, source in modules.items():
        here = unit(module)
        if here not in FLOOR:
            broken.append(f"{module} stands on no floor")
            continue
        for there in imports(module, source) - {here}:
            if there not in FLOOR:
                broken.append(f"{module} imports {there}, which stands on no floor")
            elif FLOOR[there] > FLOOR[here]:
                broken.append(f"{module} imports {there} from a floor above")
            elif {here, there} <= FAMILIES:
                broken.append(f"{module} imports another family, {there}")
    return sorted(broken)


def test_imports_go_down_only():
    assert violations(sources()) == []


def test_no_two_units_need_each_other():
    graph = {}
    for module, source in sources().items():
        graph.setdefault(unit(module), set()).update(imports(module, source) - {unit(module)})
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("gmcourse.vae.vae", "from gmcourse.flows import Flow", "another family, flows"),
        ("gmcourse.vae.vae", "from ..flows import Flow", "another family, flows"),
        ("gmcourse.vae.vae", "from .. import flows", "another family, flows"),
        ("gmcourse.vae.__init__", "from ..gan.losses import hinge", "another family, gan"),
        ("gmcourse.ebm.energy", "import gmcourse.diffusion.sde as sde", "another family, diffusion"),
        ("gmcourse.nets.mlp", "from gmcourse import fit", "imports fit from a floor above"),
        ("gmcourse.nets.mlp", "from gmcourse import VAE", "imports gmcourse from a floor above"),
        ("gmcourse.nets.mlp", "from .. import VAE", "imports gmcourse from a floor above"),
        ("gmcourse.model", "from . import viz", "imports viz from a floor above"),
        ("gmcourse.model", "from .viz import plots", "imports viz from a floor above"),
        ("gmcourse.model", "def f():\n    from gmcourse.zoo import load", "imports zoo from a floor above"),
        ("gmcourse.data.toy2d", "importlib.import_module('gmcourse.viz')", "viz from a floor above"),
        ("gmcourse.viz.plots", "import gmcourse.recipes", "imports recipes from a floor above"),
        ("gmcourse.recipes", "from gmcourse.cli import app", "imports cli from a floor above"),
        ("gmcourse.fit", "import gmcourse", "imports gmcourse from a floor above"),
        ("gmcourse.helpers", "", "stands on no floor"),
        ("gmcourse.vae.vae", "import gmcourse.helpers", "helpers, which stands on no floor"),
    ],
)
def test_planted_violations_are_found(module, source, complaint):
    (found,) = violations({module: source})
    assert complaint in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("gmcourse.vae.vae", "from gmcourse.vae.bounds import elbo"),
        ("gmcourse.vae.vae", "from .bounds import elbo\nfrom . import bounds"),
        ("gmcourse.vae.__init__", "from .bounds import elbo\nfrom . import bounds"),
        ("gmcourse.vae.vae", "from gmcourse.model import Player\nfrom ..nets import mlp\nimport torch"),
        ("gmcourse.compositions.glf", "from gmcourse import vae, flows"),
        ("gmcourse.__init__", "from gmcourse.fit import fit\nfrom .model import Player"),
        ("gmcourse.cli", "from gmcourse import recipes"),
        ("gmcourse.model", "import gmcourse_of_another_name.viz"),
    ],
)
def test_lawful_imports_pass(module, source):
    assert violations({module: source}) == []


def test_files_are_short():
    lengths = {name: source.count("\n") for name, source in sources().items()}
    assert {name: n for name, n in lengths.items() if n > 400} == {}
    assert median(lengths.values()) < 150
    for folder in ("tests", "benchmarks", "datasets"):
        for file in Path(ROOT, folder).rglob("*.py"):
            assert file.read_text("utf-8").count("\n") <= 400, file
    assert Path(ROOT, "course.py").read_text("utf-8").count("\n") <= 400
