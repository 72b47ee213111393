"""The `gmcourse` command: look around, train and show models, build chapters.

Each command imports what it needs when it runs, so that `gmcourse --help` need not wait for torch. What can't
be done as asked ends in one line on stderr and exit code 2, a chapter that fails to build in exit code 1.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Deep generative models: the course's command line.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Seed = Annotated[int, typer.Option(help="Seed of all randomness.")]
Model = Annotated[str, typer.Argument(help="A name in the zoo, or the path of a checkpoint.")]


def _plainly(command: Callable) -> Callable:
    """The command, with expected errors as one line instead of a traceback."""

    @functools.wraps(command)
    def run(*args, **kwargs):
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise
        except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
            typer.echo(f"gmcourse: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(2) from None

    return run


@app.command("list")
@_plainly
def list_systems(
    json: Json = False,
    chapter: Annotated[int | None, typer.Option(help="Only this chapter's.")] = None,
) -> None:
    """List the systems of the course.

    Shows how far each has come; --json prints one object per line.
    """
    from gmcourse.cli.systems import print_rows

    print_rows(chapter, as_json=json)


@app.command("doctor")
@_plainly
def examine_machine(json: Json = False) -> None:
    """Check versions, devices, data and folders.

    The exit code is 1 if something that is needed is missing.
    """
    from gmcourse.cli.doctor import examine, print_report

    report = examine()
    print_report(report, as_json=json)
    raise typer.Exit(0 if report["ok"] else 1)


@app.command()
@_plainly
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe.")],
    steps: Annotated[
        int | None, typer.Option(min=1, help="Train this long instead of the recipe's time.")
    ] = None,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="Folder for the results [runs/RECIPE].")] = None,
    device: Annotated[
        str | None, typer.Option("--device", "--accelerator", help="cpu, cuda or mps [the best there is].")
    ] = None,
) -> None:
    """Train a recipe.

    Weights with their card, a picture of samples and the metrics go to a folder. A run that was stopped goes
    on from its last checkpoint in that folder.
    """
    from gmcourse.cli.models import train_recipe

    train_recipe(recipe, steps, seed, out or Path("runs", recipe), device)


@app.command()
@_plainly
def sample(
    model: Model,
    n: Annotated[int, typer.Option("-n", help="How many.")] = 64,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="The PNG to write [NAME-samples.png].")] = None,
) -> None:
    """Draw samples from trained weights."""
    from gmcourse.cli.models import sample_picture

    sample_picture(model, n, seed, out)


@app.command()
@_plainly
def evaluate(model: Model, json: Json = False) -> None:
    """Measure trained weights on test data."""
    from gmcourse.cli.models import print_metrics

    print_metrics(model, as_json=json)


@app.command("scoreboard")
@_plainly
def keep_scoreboard(
    data: Annotated[
        str | None, typer.Option(help="Names, with commas [gaussians25,swiss_roll,fashion_mnist; the first if --quick].")
    ] = None,
    models: Annotated[str | None, typer.Option(help="Recipes, with commas [all that name a family].")] = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many [3; with --quick 1].")] = None,
    budget: Annotated[
        float | None, typer.Option(help="Seconds of training for each model and seed [30; with --quick 20].")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A first look, within five minutes.")] = False,
    zoo: Annotated[bool, typer.Option("--zoo", help="Measure trained weights instead of training.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder [runs/scoreboard; with --zoo runs/scoreboard-zoo].")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", "--accelerator", help="cpu, cuda or mps [the best there is].")
    ] = None,
) -> None:
    """Compare the families: quality, coverage, speed.

    Every model trains for the same time; the numbers go to CSV and JSON, the picture to a PNG. What is
    finished is not made again, and a run that was stopped goes on.
    """
    from gmcourse import scoreboard
    from gmcourse.cli.scoreboard import keep_score

    names = data.split(",") if data else ["gaussians25"] if quick else scoreboard.DATA
    chosen = models.split(",") if models else None
    seeds = (1 if quick else 3) if seeds is None else seeds
    budget = (20.0 if quick else 30.0) if budget is None else budget
    keep_score(names, chosen, seeds, budget, out or Path("runs", "scoreboard-zoo" if zoo else "scoreboard"), zoo, device)


@app.command()
@_plainly
def build(
    chapter: Annotated[str | None, typer.Argument(help="Number or name of a chapter [all].")] = None,
    execute: Annotated[bool, typer.Option(help="Run the notebook, or only renew its text.")] = True,
) -> None:
    """Make notebooks/ from solutions/.

    Takes solutions and hidden tests out, runs the rest, saves it with its pictures.
    """
    from gmcourse.build import BuildError
    from gmcourse.build import build as build_chapters

    try:
        build_chapters(chapter, execute=execute)
    except BuildError as error:
        typer.echo(f"gmcourse: {error}", err=True)
        raise typer.Exit(1) from None
