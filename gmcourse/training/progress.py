"""A progress bar that leaves one tidy line behind.

`tqdm.auto` draws the bar: a widget in Jupyter, text in a terminal. When the work is done a live widget would be saved as a
dead one, so the bar is replaced by a line of plain text: what was done, in how many seconds, with which result.
"""

import time

from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook


class Progress:
    """Bar over `total` units of work; use as a context manager and call `advance`.

    >>> with Progress("count", 3, show=False) as bar:
    ...     bar.advance(3)
    """

    def __init__(self, label: str, total: int, *, show: bool = True, unit: str = "step"):
        self.label, self.total, self.show, self.unit = label, total, show, unit
        self.done, self.note = 0, ""

    def __enter__(self):
        self._start = self._shown = time.perf_counter()
        if self.show:
            self._open()
        return self

    def _open(self):
        options = {"total": self.total, "desc": self.label, "unit": self.unit, "leave": False, "mininterval": 0.2}
        self._cell = None
        if not issubclass(tqdm, tqdm_notebook):
            self._bar = tqdm(**options)
            return
        from IPython.display import display

        self._bar = tqdm(display=False, **options)
        self._cell = display(self._bar.container, display_id=True)

    def advance(self, n: int = 1, note: str | None = None) -> None:
        """Count n more units; `note` is shown behind the bar and on the final line."""
        self.done += n
        if note is not None:
            self.note = note
        if self.show and (now := time.perf_counter()) - self._shown > 0.2:
            self._shown = now
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(self.done - self._bar.n)

    @property
    def seconds(self) -> float:
        """Seconds since the bar was opened."""
        return time.perf_counter() - self._start

    def __exit__(self, kind, error, trace):
        if not self.show:
            return
        self._bar.close()
        plural = "" if self.done == 1 else "s"
        state = "" if kind is None else "stopped after "
        line = f"{self.label}: {state}{self.done} {self.unit}{plural} in {self.seconds:.1f} s"
        line += f" · {self.note}" if self.note else ""
        if self._cell is not None:
            self._cell.update({"text/plain": line}, raw=True)
        else:
            print(line)
