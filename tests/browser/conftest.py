"""A JupyterLab of this very Python, alone in a temporary folder, and a Chromium that looks at it."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
]


class Lab:
    """A running server: `folder` holds its notebooks, `add` puts one there."""

    def __init__(self, folder: Path, url: str, token: str):
        self.folder, self.url, self.token = folder, url, token

    def add(self, name: str, notebook: dict) -> str:
        """Put a notebook there, to be run by this environment's own kernel; returns the link that opens it."""
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = notebook | {"metadata": notebook["metadata"] | {"kernelspec": kernel}}
        (self.folder / name).write_text(json.dumps(notebook), encoding="utf-8")
        # A workspace of its own for each notebook, so that no other tab comes back.
        return f"{self.url}lab/workspaces/{Path(name).stem}/tree/{name}?token={self.token}&reset"


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    home = tmp_path_factory.mktemp("lab")
    folders = {name: home / name for name in ("config", "data", "runtime", "workspaces", "settings", "ipython")}
    for folder in (*folders.values(), home / "notebooks", home / "config" / "labconfig"):
        folder.mkdir(exist_ok=True)
    no_news = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
    (home / "config" / "labconfig" / "page_config.json").write_text(json.dumps(no_news))
    # Cells out of sight are drawn, too, so that a test can see all of a page.
    tracker = home / "settings" / "@jupyterlab" / "notebook-extension" / "tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text(json.dumps({"windowingMode": "none"}))
    environment = os.environ | {
        "JUPYTER_CONFIG_DIR": str(folders["config"]),
        "JUPYTER_DATA_DIR": str(folders["data"]),
        "JUPYTER_RUNTIME_DIR": str(folders["runtime"]),
        "JUPYTERLAB_WORKSPACES_DIR": str(folders["workspaces"]),
        "JUPYTERLAB_SETTINGS_DIR": str(folders["settings"]),
        "IPYTHONDIR": str(folders["ipython"]),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
    command += ["--ServerApp.port=0", f"--ServerApp.root_dir={home / 'notebooks'}"]
    with open(home / "log.txt", "w+b") as log:
        server = subprocess.Popen(command, env=environment, cwd=home, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield Lab(home / "notebooks", *_address(server, folders["runtime"], home / "log.txt"))
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _address(server: subprocess.Popen, runtime: Path, log: Path, patience: float = 90.0) -> tuple[str, str]:
    end = time.monotonic() + patience
    while time.monotonic() < end and server.poll() is None:
        for file in runtime.glob("jpserver-*.json"):
            try:
                info = json.loads(file.read_text())
            except ValueError:  # still being written
                continue
            if info["port"]:
                return info["url"], info["token"]
        time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start within {patience:.0f} s:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def browser(chromium):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(chromium), args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def screenshots(tmp_path) -> Path:
    """Where pictures of the pages go: $GMCOURSE_SCREENSHOTS, or the test's own temporary folder."""
    folder = Path(os.environ.get("GMCOURSE_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def page(browser, screenshots, request):
    page = browser.new_page(viewport={"width": 1200, "height": 900})
    page.set_default_timeout(60_000)
    yield page
    page.screenshot(path=screenshots / f"end-of-{re.sub(r'[^a-z0-9]+', '-', request.node.name)}.png")
    page.close()
