"""pyproject.toml, constraints.txt, environment.yml and README.md say the same; nothing names a workplace."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"pytorch": "torch"}
TEST_TOOLS = {"pytest", "pytest-xdist", "hypothesis", "nbval", "nbgrader", "playwright", "ruff", "coverage"}
REGISTRY_HOSTS = [
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("npmjs", "org"),
    ("npmjs", "com"),
    ("deb", "debian", "org"),
    ("anaconda", "org"),
    ("download", "pytorch", "org"),
    ("crates", "io"),
]
NOT_OURS = {".git", ".venv", "__pycache__", ".ruff_cache", ".pytest_cache", ".hypothesis"}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """Canonical name -> requirement."""
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


PLAIN = requirements(PROJECT["dependencies"])
SHIPPED = PLAIN | requirements(EXTRAS["test"] + EXTRAS["teach"])


def pins() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    return requirements([line for line in lines if line and not line.startswith("#")])


def closure(wanted: dict[str, Requirement]) -> set[str]:
    """Canonical names of all that these requirements bring, as far as they are installed here."""
    seen, queue = set(), [(name, frozenset(r.extras)) for name, r in wanted.items()]
    while queue:
        state = name, extras = queue.pop()
        if state in seen:
            continue
        seen.add(state)
        for needed in map(Requirement, requires(name)):
            contexts = [{"extra": extra} for extra in extras or {""}]
            if needed.marker is None or any(map(needed.marker.evaluate, contexts)):
                queue.append((canonicalize_name(needed.name), frozenset(needed.extras)))
    return {name for name, _ in seen}


def requires(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:  # of an extra that was not asked for
        return []


def texts() -> dict[str, str]:
    """Path -> content of all text files of the project."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True
    )
    if listed.returncode == 0 and listed.stdout:
        files = [ROOT / name for name in listed.stdout.splitlines()]
    else:
        files = [f for f in ROOT.rglob("*") if not NOT_OURS & set(f.relative_to(ROOT).parts)]
    found = {}
    for file in files:
        if file.is_file() and b"\0" not in (content := file.read_bytes())[:8192]:
            found[str(file.relative_to(ROOT))] = content.decode("utf-8", errors="replace")
    return found


def test_conda_users_get_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text("utf-8"))["dependencies"]
    (by_pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    by_conda = [entry for entry in environment if isinstance(entry, str) and entry != "pip"]
    assert "-e ." in by_pip
    found = requirements(by_conda + [entry for entry in by_pip if not entry.startswith("-")])
    found = {CONDA_NAMES.get(name, name): str(r.specifier) for name, r in found.items()}
    assert found.pop("python") == PROJECT["requires-python"]
    assert found == {name: str(r.specifier) for name, r in SHIPPED.items()}


def test_every_dependency_has_a_lower_bound_and_nothing_more():
    everything = PROJECT["dependencies"] + [line for lines in EXTRAS.values() for line in lines]
    for name, requirement in requirements(everything).items():
        if name != "gmcourse":
            assert re.fullmatch(r">=[\d.]+", str(requirement.specifier)), requirement


def test_constraints_pin_every_dependency_within_its_bound():
    pinned = pins()
    for name, requirement in SHIPPED.items():
        (pin,) = pinned[name].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), requirement
    assert str(pinned["torch"].specifier) == "==2.13.0"


def test_constraints_fit_every_platform():
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if line[:1] != "#"]
    assert len(lines) == len(pins())
    for line in lines:
        assert re.fullmatch(r"[\w.-]+==[\w.]+", line), f"{line!r} is no plain pin"


def test_constraints_are_complete():
    of_cuda = re.compile("nvidia-|cuda-|triton$")  # what a CUDA build of torch brings along, and the CPU build does not
    assert {name for name in closure(SHIPPED) - {"pip"} if not of_cuda.match(name)} <= set(pins())


def test_a_plain_install_pulls_no_test_tool():
    assert closure(PLAIN) & TEST_TOOLS == set()


def test_the_library_imports_only_what_its_install_brings():
    """The build of the chapters may use the graders' tools besides."""
    providers = metadata.packages_distributions()
    authoring = closure(requirements(EXTRAS["teach"])) | set(PLAIN)
    for file in Path(ROOT, "gmcourse").rglob("*.py"):
        allowed = authoring if file.relative_to(ROOT).parts[1].startswith("build") else set(PLAIN)
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names.append(node.module)
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"gmcourse"}:
                provided_by = {canonicalize_name(name) for name in providers.get(top, [])}
                assert provided_by & allowed, f"{file} imports {top}"


def test_no_text_names_a_package_registry():
    pattern = re.compile("|".join(r"\b" + r"\.".join(parts) + r"\b" for parts in REGISTRY_HOSTS))
    assert {name: m.group() for name, text in texts().items() if (m := pattern.search(text))} == {}


def test_the_project_stands_by_itself():
    pattern = re.compile("|".join(("\\.\\./" + "shared", "/work" + "/", "/tmp" + "/v/")))
    assert {name: m.group() for name, text in texts().items() if (m := pattern.search(text))} == {}


def test_links_in_the_readme_lead_somewhere():
    links = re.findall(r"\]\(([^)#\s]+)", (ROOT / "README.md").read_text("utf-8"))
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_the_example_in_the_readme_runs():
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    short, n = re.subn(r"steps=\d+", "steps=5", example)
    assert n == 1
    exec(compile(short, "README.md", "exec"), {})


@pytest.fixture
def elsewhere(pytester, monkeypatch):
    """A bare test session that shares conftest.py with this one, on a machine without any program."""
    monkeypatch.setenv("PATH", str(pytester.path))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.delenv("CHROMIUM", raising=False)
    pytester.makeconftest(Path(__file__).with_name("conftest.py").read_text("utf-8"))
    pytester.makepyfile("def test_page(chromium): assert chromium.endswith(('google-chrome', 'mine'))")
    return pytester


@pytest.mark.parametrize(("ci", "outcome"), [("true", {"errors": 1}), ("", {"skipped": 1})])
def test_a_missing_browser_fails_on_ci_and_is_skipped_elsewhere(elsewhere, monkeypatch, ci, outcome):
    monkeypatch.setenv("CI", ci)
    result = elsewhere.runpytest("-rs")
    result.assert_outcomes(**outcome)
    result.stdout.fnmatch_lines(["*no Chromium found*"])


def test_a_browser_is_found_by_name_or_by_the_variable(elsewhere, monkeypatch):
    browser = elsewhere.path / "google-chrome"
    browser.touch()
    browser.chmod(0o755)
    elsewhere.runpytest().assert_outcomes(passed=1)
    browser.unlink()
    monkeypatch.setenv("CHROMIUM", "/opt/mine")
    elsewhere.runpytest().assert_outcomes(passed=1)
