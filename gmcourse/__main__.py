"""`python -m gmcourse` is the `gmcourse` command."""

from gmcourse.cli import app

app(prog_name="gmcourse")
