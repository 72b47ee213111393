"""`gmcourse list`: the catalog as a table, or as JSON, one object per line."""

import json

from rich.console import Console
from rich.table import Table

from gmcourse.catalog import rows

REFERENCES = ("code", "section", "exercise", "explorer", "test")


def print_rows(chapter: int | None, *, as_json: bool) -> None:
    """Print the systems of one chapter, or all. Raises ValueError for a chapter without any."""
    chosen = rows(chapter)
    if as_json:
        for row in chosen:
            print(json.dumps(row.as_dict()))
        return
    table = Table("ch.", "id", "system", "missing", title="Systems of the course", title_justify="left")
    for row in chosen:
        needed = [field for field in REFERENCES if field != "explorer" or row.interactive]
        missing = [field for field in needed if getattr(row, field) is None]
        all_missing = len(missing) == len(needed)
        table.add_row(str(row.chapter), row.id, row.name, "all" if all_missing else ", ".join(missing))
    console = Console()
    console.print(table)
    console.print(f"{sum(row.complete for row in chosen)} of {len(chosen)} complete")
