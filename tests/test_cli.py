"""The `gmcourse` command: what it prints, writes and refuses. Recipes are tiny; all else is real."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from gmcourse import build as building
from gmcourse import checkpoint, recipes, zoo
from gmcourse.catalog import ROWS
from gmcourse.classifier import mlp_classifier
from gmcourse.cli import app, doctor
from gmcourse.data import images
from gmcourse.flows import real_nvp
from gmcourse.metrics import scoreboard as measuring
from gmcourse.recipes import Recipe
from gmcourse.recipes.measures import accuracy, bounds
from gmcourse.vae import mlp_vae

ROOT = Path(__file__).resolve().parents[1]
POINTS = Recipe(
    "tiny", "few points", lambda: mlp_vae(hidden=(8,)), "gaussians25", bounds, {"steps": 6, "batch_size": 16}
)
DIGITS = Recipe("pixels", "few digits", lambda: mlp_vae((1, 8, 8), hidden=(8,)), "digits", bounds, {"epochs": 1})


@pytest.fixture(autouse=True)
def small_world(monkeypatch, tmp_path):
    """Two tiny recipes, an empty zoo, an empty folder to work in, and an evaluation that takes no time."""
    monkeypatch.setattr(recipes, "RECIPES", {"tiny": POINTS, "pixels": DIGITS})
    monkeypatch.setattr(recipes.Recipe, "evaluate", lambda self, model: {"mean": mean_weight(model)})
    monkeypatch.setattr(zoo, "NAMES", ())
    monkeypatch.chdir(tmp_path)


def mean_weight(model):
    return float(next(model.parameters()).detach().mean())


def run(*args, code=0):
    result = CliRunner().invoke(app, args)
    assert result.exit_code == code, (result.output, result.exception)
    return result


def refused(*args):
    """The one line on stderr of a call that ends in exit code 2."""
    result = run(*args, code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("gmcourse: ")
    return result.stderr


def test_help_is_quick_and_needs_no_torch():
    code = "import sys; from gmcourse.cli import app; print(sorted({'torch', 'rich'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_module_and_command_are_the_same():
    command = [sys.executable, "-m", "gmcourse", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    for name in ("list", "doctor", "train", "sample", "evaluate", "scoreboard", "build"):
        assert f"\n  {name} " in done.stdout


def test_list_prints_one_json_object_per_row():
    lines = run("list", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [row.as_dict() for row in ROWS]
    assert lines[0].isascii()
    chapter = [json.loads(line)["id"] for line in run("list", "--json", "--chapter", "2").stdout.splitlines()]
    assert chapter == ["vae", "iwae", "posterior-collapse", "prior-hole", "hierarchical-vae"]


def test_list_prints_a_table():
    shown = run("list", "--chapter", "14").stdout
    assert "survae" in shown and "neural-sde" in shown and "of 3 complete" in shown
    assert "chapter must lie in 1 to 14; got 77" in refused("list", "--chapter", "77")


def test_doctor_finds_a_sound_machine():
    facts = json.loads(run("doctor", "--json").stdout)
    assert facts["ok"] and facts["missing"] == []
    version, _, build = torch.__version__.partition("+")
    assert facts["packages"]["torch"] in (version, f"{version}+{build}")
    assert {facts["data"][name] for name in images.OFFLINE} == {"there"}
    assert "cpu" in facts["devices"] and facts["writable"][str(Path.cwd())]
    shown = run("doctor").stdout
    assert facts["python"] in shown and "All that is needed is there." in shown


def test_doctor_names_what_is_missing(monkeypatch):
    def gone(name, *args, **kwargs):
        raise images.DataUnavailable(f"no {name}.npz here")

    monkeypatch.setattr(images, "load_images", gone)
    monkeypatch.setattr(doctor, "_writable", lambda folder: False)
    monkeypatch.setattr(doctor, "_version", lambda package: None if package in ("POT", "nbgrader") else "1.0")
    result = run("doctor", "--json", code=1)
    missing = json.loads(result.stdout)["missing"]
    assert (
        "package POT" in missing
        and "data set digits" in missing
        and f"write access to {Path.cwd()}" in missing
    )
    assert not any("nbgrader" in item for item in missing)
    assert "no nbgrader, needed only to build and grade chapters" in run("doctor", code=1).stdout


def test_doctor_tries_to_write(tmp_path):
    assert doctor._writable(tmp_path)
    assert not doctor._writable(tmp_path / "absent")
    assert list(tmp_path.iterdir()) == []


def test_train_writes_weights_card_picture_and_metrics():
    result = run("train", "tiny", "--seed", "3", "--device", "cpu")
    folder = Path("runs", "tiny")
    assert str(folder / "tiny.safetensors") in result.stdout
    tensors, card = checkpoint.read(folder / "tiny.safetensors")
    assert card["recipe"] == "tiny" and card["seed"] == 3 and card["training"]["steps"] == 6
    assert json.loads((folder / "tiny.json").read_text())["metrics"] == card["metrics"]
    assert Image.open(folder / "tiny-samples.png").size == (400, 320)
    assert set(tensors) == set(POINTS.build().state_dict())


def test_train_is_what_fit_does():
    """The command adds nothing to the recipe: the same weights come out of `fit` with the recipe's settings."""
    from gmcourse import fit

    run("train", "tiny", "--steps", "4", "--seed", "1", "--out", "here", "--device", "cpu")
    model = POINTS.build(1)
    fit(model, POINTS.load_data(), steps=4, batch_size=16, seed=1, progress=False)
    tensors, _ = checkpoint.read("here/tiny.safetensors")
    assert all(torch.equal(tensors[name], value) for name, value in model.state_dict().items())


def test_train_goes_on_from_where_it_stopped():
    run("train", "tiny", "--steps", "4", "--device", "cpu")
    run("train", "tiny", "--device", "cpu")
    run("train", "tiny", "--out", "whole", "--device", "cpu")
    resumed, whole = (checkpoint.read(f"{folder}/tiny.safetensors")[0] for folder in ("runs/tiny", "whole"))
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_train_steps_replace_epochs():
    run("train", "pixels", "--steps", "2", "--device", "cpu")
    assert json.loads(Path("runs/pixels/pixels.json").read_text())["training"]["steps"] == 2


def test_sample_from_a_file_is_reproducible():
    run("train", "pixels", "--steps", "2", "--out", "p", "--device", "cpu")
    pictures = []
    for seed in ("0", "0", "1"):
        assert (
            run("sample", "p/pixels.safetensors", "-n", "9", "--seed", seed).stdout == "pixels-samples.png\n"
        )
        pictures.append(Path("pixels-samples.png").read_bytes())
    assert pictures[0] == pictures[1] != pictures[2]
    width, height = Image.open("pixels-samples.png").size
    assert width == height >= 480
    run("sample", "p/pixels.safetensors", "--out", "deep/in/there.png")
    assert Path("deep/in/there.png").is_file()


def test_a_classifier_is_trained_and_measured_but_draws_no_samples():
    net, settings = partial(mlp_classifier, (1, 8, 8), 10), {"steps": 2}
    recipes.RECIPES["labels"] = Recipe("labels", "digits", net, "digits", accuracy, settings, labelled=True)
    run("train", "labels", "--out", "p")
    assert not list(Path("p").glob("*.png"))
    assert "labels on digits" in run("evaluate", "p/labels.safetensors").stdout
    assert "p/labels.safetensors is a Classifier, which draws no samples" in refused("sample", "p/labels.safetensors")


def test_sample_and_evaluate_from_the_zoo(monkeypatch):
    model = POINTS.build(5)
    monkeypatch.setattr(zoo, "WEIGHTS", Path.cwd())
    checkpoint.save("tiny.safetensors", model, {"recipe": "tiny", "seed": 5})
    monkeypatch.setattr(zoo, "NAMES", ("tiny", "tiny_seed5"))
    checkpoint.save("tiny_seed5.safetensors", model, {"recipe": "tiny", "seed": 5})
    assert run("sample", "tiny_seed5", "-n", "3").stdout == "tiny_seed5-samples.png\n"
    assert run("sample", "tiny", "-n", "3").stdout == "tiny-samples.png\n"
    facts = json.loads(run("evaluate", "tiny", "--json").stdout)
    assert facts["recipe"] == "tiny" and facts["seed"] == 5 and facts["data"] == "gaussians25"
    assert facts["metrics"] == POINTS.evaluate(model)
    assert "tiny on gaussians25" in run("evaluate", "tiny").stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("train", "tinny"), "recipe must be one of pixels, tiny; got 'tinny'"),
        (("train", "tiny", "--device", "abacus"), "device must be one of cpu, cuda, mps; got 'abacus'"),
        (("sample", "tiny"), "the zoo has no weights of 'tiny': make some with gmcourse train tiny"),
        (("sample", "nothing"), "no weights named 'nothing' in the zoo and no such file"),
        (("sample", "tiny", "-n", "0"), "n must be a positive whole number; got 0"),
        (("sample", "gone.safetensors"), "no checkpoint at gone.safetensors"),
        (("evaluate", "garbage"), "garbage is not a whole safetensors file"),
        (("evaluate", "foreign"), "foreign does not say which recipe it belongs to"),
        (("evaluate", "other"), "recipe must be one of pixels, tiny; got 'gone'"),
        (("evaluate", "misfit"), "misfit does not fit VAE"),
        (("build", "99"), "chapter must be one of "),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(args, message):
    Path("garbage").write_text("garbage")
    checkpoint.save("foreign", POINTS.build(), {})
    checkpoint.save("other", POINTS.build(), {"recipe": "gone"})
    checkpoint.save("misfit", DIGITS.build(), {"recipe": "tiny"})
    assert message in refused(*args)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there():
    for option in ("--device", "--accelerator"):  # the same; the latter is Lightning's word
        assert "device 'cuda' can't be used" in refused("train", "tiny", option, "cuda")


def test_usage_errors_are_short():
    result = run("train", code=2)
    assert "Missing argument" in result.stderr and "Traceback" not in result.stderr
    assert "No such command" in run("trian", code=2).stderr
    assert "--steps" in run("train", "tiny", "--steps", "0", code=2).stderr


@pytest.fixture
def contest(monkeypatch):
    """Two recipes that join the scoreboard of 25 Gaussians, and one of another plane; few samples are measured."""
    flow = partial(real_nvp, layers=2, hidden=(8,))
    for name, data in (("first", "gaussians25"), ("second", "gaussians25"), ("third", "swiss_roll")):
        settings = {"steps": 6, "batch_size": 16}
        recipes.RECIPES[name] = Recipe(name, name, flow, data, bounds, settings, family=name.upper())
    monkeypatch.setattr(measuring, "SAMPLES", {"plane": 300, "images": 100})


def test_scoreboard_quick_writes_table_data_and_picture(contest):
    result = run("scoreboard", "--quick", "--models", "first,second", "--budget", "0.05", "--device", "cpu")
    folder = Path("runs", "scoreboard", "gaussians25")
    rows = json.loads((folder / "scoreboard.json").read_text())["rows"]
    assert [(row["model"], row["seed"], row["family"]) for row in rows] == [("first", 0, "FIRST"), ("second", 0, "SECOND")]
    assert len((folder / "scoreboard.csv").read_text().splitlines()) == 3
    assert Image.open(folder / "trilemma.png").size[0] == 960
    for word in ("FIRST", "ms/1000", "thesis 2.6", "has no likelihood", str(folder)):
        assert word in result.stdout


def test_scoreboard_gives_each_data_set_its_models_and_as_many_seeds_as_asked(contest):
    args = ("--data", "gaussians25,swiss_roll", "--models", "third,first", "--seeds", "2", "--budget", "0.05", "--out", "b")
    run("scoreboard", *args, "--device", "cpu")
    for data, model in (("gaussians25", "first"), ("swiss_roll", "third")):
        rows = json.loads(Path("b", data, "scoreboard.json").read_text())["rows"]
        assert [(row["model"], row["seed"]) for row in rows] == [(model, 0), (model, 1)]
    args = ("--data", "gaussians25,swiss_roll", "--models", "third", "--seeds", "1", "--budget", "0.05", "--out", "c")
    run("scoreboard", *args, "--device", "cpu")
    assert [path.name for path in Path("c").iterdir()] == ["swiss_roll"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--data", "nope"), "data must be one of gaussians25, swiss_roll; got 'nope'"),
        (("--data", "gaussians25,"), "data must be one of gaussians25, swiss_roll; got ''"),
        (("--quick", "--models", "first,fourth"), "recipe must be one of first, pixels, second, third, tiny; got 'fourth'"),
        (("--quick", "--models", "third"), "models must be recipes of gaussians25; third is of swiss_roll"),
        (("--quick", "--budget", "-1"), "budget must be a positive number of seconds; got -1"),
        (("--quick", "--budget", "0"), "budget must be a positive number of seconds; got 0"),
        (("--data", "nope,gaussians25", "--models", "first"), "data must be one of gaussians25, swiss_roll; got 'nope'"),
        (("--quick", "--device", "abacus"), "device must be one of cpu, cuda, mps; got 'abacus'"),
        (("--quick", "--zoo"), "models must have weights in the zoo; there are none of first, second"),
    ],
)
def test_scoreboard_refuses_in_one_line(contest, args, message):
    assert message in refused("scoreboard", *args)
    assert not Path("runs").exists()


def test_build_passes_its_arguments_on(monkeypatch):
    calls = []
    monkeypatch.setattr(building, "build", lambda chapter, execute: calls.append((chapter, execute)))
    run("build")
    run("build", "02", "--no-execute")
    assert calls == [(None, True), ("02", False)]


def test_a_failed_build_shows_its_traceback_and_ends_in_1(monkeypatch):
    def fail(chapter, execute):
        raise building.BuildError("02_vae: cell elbo raised\n  ValueError")

    monkeypatch.setattr(building, "build", fail)
    result = run("build", code=1)
    assert result.stderr == "gmcourse: 02_vae: cell elbo raised\n  ValueError\n"


def test_build_without_nbgrader(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "nbgrader", None)
    monkeypatch.setitem(sys.modules, "nbgrader.preprocessors", None)
    fixture = ROOT / "tests" / "notebooks" / "fixture" / "solutions" / "02_tiny.ipynb"
    monkeypatch.setattr(building, "masters", lambda chapter, root: [fixture])
    assert "building needs nbgrader: pip install 'gmcourse[teach]'" in refused("build")
