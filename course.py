"""The two commands of the course, for a Python with nothing installed:

    python3 course.py lab     opens the course in JupyterLab
    python3 course.py test    runs every test: library, notebooks, browser

Both make a virtual environment `.venv` beside this file when there is none and bring it up to date when
pyproject.toml or constraints.txt have changed. What was installed is written to `.venv/gmcourse.json`:
"unfinished" before the work and the full truth after it, so an interrupted installation is noticed and
made afresh. With `--here` both use the Python that runs this file as it is (a conda environment, say).

The file is kept readable for Pythons much older than the course needs, so that they can say so.
"""
from __future__ import print_function

import sys

if sys.version_info < (3, 11):
    sys.exit("course.py: gmcourse needs Python 3.11 or newer, and this is Python %d.%d (%s)."
             % (sys.version_info[0], sys.version_info[1], sys.executable))

import argparse
import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
import time
from collections import Counter, namedtuple
from importlib.util import find_spec
from itertools import takewhile
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
START = "notebooks/00_start_here.ipynb"
WORKERS = 2
CELL_SECONDS = 300
NO_TESTS = 5  # pytest's exit code when it found nothing to run
UNFINISHED = {"finished": False}
CLEAR = "\r\033[K"  # a terminal's current line, emptied
NETWORK_SIGNS = ("NewConnectionError", "NameResolutionError", "ConnectTimeout", "ReadTimeout", "ProxyError",
                 "getaddrinfo failed", "Name or service not known", "Temporary failure in name resolution",
                 "Connection refused", "Network is unreachable")

Part = namedtuple("Part", "name command environment")
Result = namedtuple("Result", "name counts reasons code seconds")


class CourseError(Exception):
    """What stops a command, in a sentence a newcomer can act on."""


# What is installed and what should be

def wanted(root, extras):
    """What a finished installation of `root` with these extras writes into its stamp."""
    files = [Path(root, name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    return {"finished": True, "root": str(root), "python": sys.version, "extras": sorted(extras),
            "requirements": hashlib.sha256(b"\0".join(files)).hexdigest()}


def read_stamp(venv):
    """The stamp of an environment; None where there is none, unfinished where it cannot be read."""
    try:
        return json.loads(stamp_file(venv).read_text("utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        return UNFINISHED


def write_stamp(venv, stamp):
    stamp_file(venv).write_text(json.dumps(stamp, indent=1), "utf-8")


def stamp_file(venv):
    return Path(venv, "gmcourse.json")


def step(stamp, want, exists):
    """What brings an environment with this stamp to what is wanted: "nothing", "install" or "rebuild".

    An environment made for another folder or Python, or not finished, is rebuilt; one that lacks
    something, or that someone made by hand (no stamp), is installed into.
    """
    if not exists or (stamp is not None and not stamp.get("finished")):
        return "rebuild"
    if stamp is None:
        return "install"
    if any(stamp.get(key) != want[key] for key in ("root", "python")):
        return "rebuild"
    enough = set(want["extras"]) <= set(stamp.get("extras", ()))
    return "nothing" if enough and stamp.get("requirements") == want["requirements"] else "install"


def python_of(venv, windows=os.name == "nt"):
    """The interpreter of a virtual environment."""
    return Path(venv, "Scripts", "python.exe") if windows else Path(venv, "bin", "python")


# Installing

def prepare(root, extras=()):
    """Makes or mends `.venv` so that it has what pyproject.toml and these extras ask for; its Python."""
    venv = Path(root, ".venv")
    python = python_of(venv)
    stamp, want = read_stamp(venv), wanted(root, extras)
    todo = step(stamp, want, python.exists())
    if todo == "nothing":
        return python
    if todo == "rebuild":
        make_venv(venv)
    elif stamp:
        want["extras"] = sorted(set(want["extras"]) | set(stamp["extras"]))
    write_stamp(venv, UNFINISHED)
    install(root, python, want["extras"])
    for module, arguments in (
        ("ipykernel", ["install", "--sys-prefix", "--name", "gmcourse", "--display-name", "gmcourse"]),
        ("jupyterlab.labextensions", ["disable", "@jupyterlab/apputils-extension:announcements"]),
    ):
        done = subprocess.run([str(python), "-m", module] + arguments, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, errors="replace")
        if done.returncode:
            raise CourseError("%s could not be set up: %s" % (module, done.stdout.strip()))
    write_stamp(venv, want)
    return python


def make_venv(venv):
    """An empty virtual environment, in place of whatever was there."""
    for module in ("venv", "ensurepip"):
        if find_spec(module) is None:
            raise CourseError("this Python lacks its module %s; on Debian or Ubuntu `apt install "
                              "python3-venv` brings it." % module)
    print("Making the virtual environment %s" % venv, flush=True)
    try:
        if venv.exists():
            shutil.rmtree(str(venv))
        venv.mkdir()
        write_stamp(venv, UNFINISHED)
    except OSError as error:
        raise CourseError("%s cannot be made afresh (%s); is the course open somewhere else?"
                          % (venv, error))
    made = subprocess.run([sys.executable, "-m", "venv", str(venv)], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace")
    if made.returncode:
        raise CourseError("the virtual environment could not be made: %s" % made.stdout.strip())


def install_command(root, python, extras):
    """The pip command that installs the course as an editable package at the pinned versions."""
    target = ".[%s]" % ",".join(extras) if extras else "."
    return [str(python), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off",
            "-c", str(Path(root, "constraints.txt")), "-e", target]


def install(root, python, extras):
    """Runs pip, showing in one moving line what it is at; its whole output goes to .venv/install.log."""
    print("Installing the course: about 2 GB, a few minutes the first time", flush=True)
    started, log = time.monotonic(), []
    pip = subprocess.Popen(install_command(root, python, extras), cwd=str(root), stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True, errors="replace",
                           env=dict(os.environ, PYTHONUNBUFFERED="1"))
    lines = queue.Queue()
    threading.Thread(target=lambda: [lines.put(line) for line in pip.stdout] + [lines.put(None)],
                     daemon=True).start()
    ticker = Ticker(sys.stdout)
    with Path(root, ".venv", "install.log").open("w", encoding="utf-8") as record:
        line = ""
        while line is not None:
            record.write(line)
            log.extend(line.splitlines())
            ticker.show(line)
            try:
                line = lines.get(timeout=1)
            except queue.Empty:
                line = ""
    if pip.wait():
        ticker.say("\n".join(log[-8:]))
        raise CourseError(reason("\n".join(log)))
    ticker.say("Installed in %d s" % (time.monotonic() - started))


def reason(log):
    """One sentence on why pip failed, read from what it printed."""
    if any(sign in log for sign in NETWORK_SIGNS):
        return "the packages could not be fetched; connect to the network and run the same command again."
    if "No space left on device" in log:
        return "the disk is full; the course needs about 2 GB (6 GB with PyTorch's CUDA build)."
    return "pip could not install the course; its whole output is in .venv/install.log."


class Ticker:
    """Shows pip's current step and the time: a moving line in a terminal, a line now and then elsewhere."""

    def __init__(self, out, every=20):
        self.out, self.every = out, every
        self.started = self.last = time.monotonic()
        self.doing = "starting"
        self.noted = bool(shutil.which("nvidia-smi"))

    def show(self, line):
        now = time.monotonic()
        if line.strip().startswith(("Collecting ", "Downloading ", "Installing ", "Building ")):
            self.doing = line.split(" (from")[0].split(":")[0].strip()
        if line.startswith("Collecting nvidia") and not self.noted:
            self.noted = True
            self.say("Note: pip takes PyTorch's CUDA build, though this machine shows no NVIDIA card; "
                     "README.md, \"A smaller PyTorch\", says how to save 4 GB.")
        status = "  %3d s  %s" % (now - self.started, self.doing[:70])
        if self.out.isatty():
            self.out.write(CLEAR + status)
            self.out.flush()
        elif now - self.last >= self.every:
            self.last = now
            self.say(status)

    def say(self, text):
        self.out.write((CLEAR if self.out.isatty() else "") + text + "\n")
        self.out.flush()


# lab

def lab_command(root, python, port, browser, as_root):
    """The command that starts JupyterLab on this machine's loopback address at the first chapter."""
    command = [str(python), "-m", "jupyterlab", "--ip=127.0.0.1", "--port=%d" % port,
               "--ServerApp.log_level=WARN", "--LabApp.log_level=WARN",
               "--ServerApp.root_dir=%s" % root, "--LabApp.default_url=/lab/tree/" + START]
    return command + ([] if browser else ["--no-browser"]) + (["--allow-root"] if as_root else [])


def lab(root, options):
    if not Path(root, START).exists():
        raise CourseError("%s is missing; fetch the whole course again, or run `gmcourse build`." % START)
    python = sys.executable if options.here else prepare(root)
    command = lab_command(root, python, options.port, options.browser,
                          as_root=hasattr(os, "geteuid") and os.geteuid() == 0)
    print("Starting JupyterLab; Ctrl-C here ends it.", flush=True)
    os.chdir(str(root))
    if os.name != "nt":
        os.execv(command[0], command)
    with subprocess.Popen(command) as server:
        while True:
            try:
                return server.wait()
            except KeyboardInterrupt:  # the server has got it as well and asks what to do
                pass


# test

def parts(root, python, only=None, arguments=()):
    """The test runs: the library, every notebook, the browser; all, `only` one, or those owning a path.

    `arguments` go to pytest; the files and folders they begin with replace what a part would run.
    """
    paths = list(takewhile(lambda argument: not argument.startswith("-"), arguments))
    rest = list(arguments[len(paths):])
    notebooks = sorted(str(p.relative_to(root)) for p in Path(root, "notebooks").glob("*.ipynb"))
    spread = ["-n", str(WORKERS), "--dist", "loadscope"]
    lax = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=%d" % CELL_SECONDS]
    sanitize = Path(root, "tests", "notebooks", "sanitize.cfg")
    if sanitize.exists():
        lax.append("--nbval-sanitize-with=%s" % sanitize)
    table = (
        ("unit", spread + ["--doctest-modules", "-m", "not browser", "--ignore=tests/browser"],
         ["gmcourse", "tests"],
         {"MPLBACKEND": "agg"}),
        ("notebooks", spread + lax, notebooks, {}),
        ("browser", ["-m", "browser"], ["tests/browser"], {}),
    )
    threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    chosen = []
    for name, flags, default, environment in table:
        targets = [path for path in default if Path(root, path).exists()]
        if paths:
            targets = [path for path in paths if owner(path) == name]
        if targets and only in (None, name):
            command = [str(python), "-m", "pytest", "-q", "--color=auto"] + flags + rest + targets
            chosen.append(Part(name, command, dict(threads, **environment)))
    return chosen


def owner(path):
    """The part of the tests that runs this path."""
    posix = path.replace(os.sep, "/")
    if posix.split("::")[0].endswith(".ipynb") or posix.rstrip("/") == "notebooks":
        return "notebooks"
    return "browser" if posix.startswith("tests/browser") else "unit"


def run_part(root, part):
    """Runs one part with its output on the screen; its counts come from pytest's own report."""
    print("\n== %s: %s" % (part.name, " ".join(part.command[3:])), flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        code = subprocess.call(part.command + ["--junitxml=%s" % report], cwd=str(root),
                               env=dict(os.environ, **part.environment))
        counts, reasons = read_report(report)
    if code not in (0, NO_TESTS) and not counts["failed"]:
        counts["failed"] = 1  # pytest itself broke down: a failure even where no test is to blame
    return Result(part.name, counts, reasons, code, time.monotonic() - started)


def read_report(report):
    """Counts of passed, failed and skipped tests in a JUnit report, and why tests were skipped."""
    counts, reasons = Counter(), Counter()
    if report.exists():
        for case in ElementTree.parse(str(report)).iter("testcase"):
            tags = {child.tag: child for child in case}
            if "failure" in tags or "error" in tags:
                counts["failed"] += 1
            elif "skipped" in tags:
                counts["skipped"] += 1
                reasons[tags["skipped"].get("message", "")] += 1
            else:
                counts["passed"] += 1
    return counts, reasons


def summary(results):
    """Lines on each part, then the one that counts everything."""
    lines = [""]
    for result in results:
        lines.append("%-10s %6.0f s   %s" % (result.name, result.seconds, tally(result.counts)))
        lines += ["%-10s          SKIPPED %d: %s" % ("", n, why) for why, n in result.reasons.items()]
    lines.append("%-10s %6.0f s" % ("all", sum(result.seconds for result in results)))
    return "\n".join(lines + ["course: " + tally(sum((r.counts for r in results), Counter()))])


def tally(counts):
    return ", ".join("%d %s" % (counts[key], key) for key in ("passed", "failed", "skipped"))


def exit_code(results):
    """0 when tests ran and none failed, 1 when one failed, 5 when there was nothing to run."""
    if any(result.counts["failed"] for result in results):
        return 1
    return 0 if any(result.counts["passed"] for result in results) else NO_TESTS


def test(root, options):
    python = sys.executable if options.here else prepare(root, ["test"])
    results = [run_part(root, part) for part in parts(root, python, options.only, options.arguments)]
    print(summary(results), flush=True)
    return exit_code(results)


# The command line

def parse(arguments):
    """The options of a command line; what `test` does not know itself goes on to pytest."""
    parser = argparse.ArgumentParser(prog="course.py", description="Opens the course, or tests it.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, function, text in (("lab", lab, "open the course in JupyterLab"),
                                 ("test", test, "run every test; further arguments, paths first, go to pytest")):
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.set_defaults(run=function)
        command.add_argument("--here", action="store_true", help="use this Python as it is, make no .venv")
    commands.choices["lab"].add_argument("--port", type=port, default=8888,
                                         help="the port to try first (default 8888)")
    commands.choices["lab"].add_argument("--no-browser", dest="browser", action="store_false",
                                         help="print the address, open nothing")
    commands.choices["test"].add_argument("--only", choices=("unit", "notebooks", "browser"),
                                          help="run this part alone")
    options, options_of_pytest = parser.parse_known_args(arguments)
    if options_of_pytest and options.command != "test":
        parser.error("unknown arguments: " + " ".join(options_of_pytest))
    options.arguments = options_of_pytest
    return options


def port(text):
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError("a port lies between 1 and 65535; got %d" % number)
    return number


def main(arguments):
    options = parse(arguments)
    try:
        return options.run(ROOT, options)
    except CourseError as error:
        print("course.py: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ncourse.py: stopped.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
