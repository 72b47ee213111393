"""`gmcourse scoreboard`: every family under one budget of time; a table on the screen, CSV, JSON and PNG in a folder."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gmcourse import recipes, scoreboard
from gmcourse.cli.models import placed
from gmcourse.metrics.scoreboard import Board
from gmcourse.model import StandardNormal
from gmcourse.viz.trilemma import trilemma_figure


def keep_score(
    data: Sequence[str], models: Sequence[str] | None, seeds: int, budget: float, out: Path, load: bool, where: str | None
) -> None:
    """Train (or load) and measure on each data set; files go to out/DATA, a table and the verdicts to the screen.

    Models are named for all data sets together; each goes to its own. Raises ValueError for unknown names or a device that
    is not there, before anything is trained, and what `scoreboard.run` raises.
    """
    device = placed(StandardNormal(1), where).origin.device
    chosen = {name: _of(name, data, models) for name in data}
    for name, own in chosen.items():
        if own == []:
            continue
        folder = out / name
        board = scoreboard.run(name, own, seeds=range(seeds), budget=budget, folder=folder, load=load, device=device)
        trilemma_figure(board).savefig(folder / "trilemma.png")
        print_board(board)
        print(folder)


def print_board(board: Board) -> None:
    """The table of a board, and under it what it says of the claims of thesis 2.6."""
    head, cells = board.table()
    families, *numbers = zip(head, *cells, strict=True)  # a column for each model
    table = Table(*families, title=f"The scoreboard of {board.rows[0].data}", title_justify="left")
    for row in numbers:
        table.add_row(*row)
    claims = Table("family", "", "thesis 2.6", "measured", "evidence")
    for verdict in scoreboard.verdicts(board):
        claim = verdict.claim
        claims.add_row(claim.family, "+" if claim.side == "pro" else "−", claim.text, verdict.verdict, verdict.evidence)
    Console(highlight=False).print(table, claims, sep="\n")


def _of(name: str, data: Sequence[str], models: Sequence[str] | None) -> list[str] | None:
    """The named models that belong to a data set, perhaps none; None for all."""
    scoreboard.entrants(name)  # data that nobody joins on are refused
    if models is None:
        return None
    known = [recipes.get(model) for model in models]
    for recipe in known:
        if recipe.data not in data:
            raise ValueError(f"models must be recipes of {', '.join(data)}; {recipe.name} is of {recipe.data}")
    return [recipe.name for recipe in known if recipe.data == name]
