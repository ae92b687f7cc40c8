"""What is written where: results to stdout as tables or JSON, notes to stderr, and errors as exit messages.

Every word that is printed passes here, because strangers named datasets, classes and files: what could move the cursor,
colour the screen or turn the direction of reading is shown as escapes (see ``latentstore.printable``). Nothing else in
this folder prints.
"""

from __future__ import annotations

import errno
import json
import os
import re
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType
    from rich.measure import Measurement
    from rich.progress import Progress, ProgressColumn, TextColumn
    from rich.table import Table
    from rich.text import Text

PIPED_WIDTH = 10_000
"""Columns of a pipe: no row is ever wrapped there, so that grep and awk see whole rows."""
SHORTEST_COLUMN = 20
"""Characters below which a column of words is not squeezed."""
WIDEST_PAIR = 72
"""Columns that names and values may take of a terminal that has less; words that need more (addresses) are folded."""
LONGEST_WORD, LONGEST_CELL = 255, 4000
"""Letters of a word and of a cell of a table, which end in … beyond; the name of a file is never that long."""
STOPPED = 130
"""128 + SIGINT, as shells count."""

ADVICE = {
    errno.ENOSPC: "make room, then type the same command again: it continues",
    errno.EDQUOT: "make room, then type the same command again: it continues",
    errno.EACCES: "choose a place that you may read and write",
    errno.EPERM: "choose a place that you may read and write",
    errno.EROFS: "choose a place that you may read and write",
}
"""What to do next, by the number of the system's error."""


# Errors --------------------------------------------------------------------------------------------------------------


@contextmanager
def exit_messages(when_stopped: Callable[[], str]) -> Iterator[None]:
    """Turn what may go wrong into one sentence on stderr and an exit code; errors that are bugs pass with traceback.

    ``when_stopped`` gives what is true after Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        note(f"Stopped: {when_stopped()}")
        raise click.exceptions.Exit(STOPPED) from None
    except click.ClickException as error:  # click's own, not looked into: help stays light
        if error.message:  # the others say what they miss of our own words
            error.message = shown(error.message)  # type: ignore[misc]  # it is read when it is printed
        raise
    except (click.exceptions.Exit, click.Abort):
        raise
    except OSError as error:
        if error.errno == errno.EPIPE:  # the reader of a pipe has left: click ends quietly
            raise
        raise failure(_system_error(error)) from error
    except Exception as error:
        from latentstore import LatentStoreError

        if not isinstance(error, LatentStoreError):
            raise
        raise failure(" ".join(str(error).split())) from error


def _system_error(error: OSError) -> str:
    what = error.strerror or str(error) or type(error).__name__
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
    advice = f"; {ADVICE[error.errno]}" if error.errno in ADVICE else ""
    return f"{where}{what}{advice}."


def shown(text: str) -> str:
    """A text as it is printed: on one line, and nothing in it that a terminal obeys."""
    from latentstore.printable import printable

    return printable(text)


def failure(text: str) -> click.ClickException:
    """What to raise where a command ends with this sentence."""
    return click.ClickException(shown(text))


def note(text: str) -> None:
    """A line for people, on stderr."""
    click.echo(shown(text), err=True)


def confirmed(question: str) -> None:
    """Go on where the user says yes; click ends the command where not."""
    click.confirm(shown(question), abort=True, err=True)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep warnings and logs of the libraries below off the terminal; latentstore's own warnings are shown as notes.

    What the user asked for with ``python -W``, PYTHONWARNINGS or a library's own variable stays as it is.
    """
    for name in ("DATASETS_VERBOSITY", "DIFFUSERS_VERBOSITY", "HF_HUB_VERBOSITY", "TRANSFORMERS_VERBOSITY"):
        os.environ.setdefault(name, "error")
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            # torch's C++ warnings are attributed to the calling line, so the module alone does not tell whose it is.
            warnings.filterwarnings("default", message="The dataset is written in format", module="latentstore")
            warnings.showwarning = _show_warning
        yield


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    note(f"Warning: {message}")


# Results -------------------------------------------------------------------------------------------------------------


def is_terminal(stream: TextIO) -> bool:
    """True where people read along."""
    return stream.isatty()


def takes_escapes(stream: TextIO) -> bool:
    """True where colours and cursor movements are welcome: a terminal, without NO_COLOR, that is not dumb."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") not in ("dumb", "unknown")


def console_on(stream: TextIO) -> Console:
    """A rich console that follows the rules above; text is never taken for markup."""
    from rich.console import Console

    return Console(
        file=stream,
        width=None if is_terminal(stream) else PIPED_WIDTH,
        color_system="auto" if takes_escapes(stream) else None,
        force_terminal=takes_escapes(stream),
        highlight=False,
        markup=False,
        emoji=False,
    )


def print_json(value: object) -> None:
    """Exactly one JSON value on stdout; what is not seen is an escape of JSON, so that the value is the same."""
    from latentstore.printable import HIDDEN

    unicode = (sys.stdout.encoding or "").casefold().replace("-", "") == "utf8"
    text = json.dumps(value, indent=2, ensure_ascii=not unicode, allow_nan=False)
    # A file name that is no unicode cannot be JSON either: its bytes are shown as \udcXX.
    click.echo(HIDDEN.sub(lambda found: found[0] if found[0] == "\n" else json.dumps(found[0])[1:-1], text))


def print_lines(text: str) -> None:
    """A text of several lines, on stdout."""
    click.echo("\n".join(map(shown, text.split("\n"))), nl=False)


def print_line(text: str) -> None:
    """A line on stdout, where that is all."""
    click.echo(shown(text))


class Page:
    """Tables and paragraphs for stdout, printed as a whole when the page is complete."""

    def __init__(self) -> None:
        self._stream = sys.stdout
        self._console = console_on(self._stream)
        self._blocks: list[str] = []

    def heading(self, text: str) -> None:
        """A line that begins a part, with an empty line before it, except at the top."""
        self._add(_styled(shown(text), "bold"), before="\n" if self._blocks else "")

    def line(self, text: str = "", style: str = "") -> None:
        """A paragraph; style is a colour of rich."""
        self._add(_styled(shown(text), style))

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values; a pair without a name goes on with the one above."""
        from rich.table import Table

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(no_wrap=True, style="dim")
        grid.add_column(overflow="fold")
        for name, value in pairs:
            grid.add_row(f"  {_cell(name)}", _cell(value))
        self._blocks.append(self._rendered(grid, at_most=WIDEST_PAIR))

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str]],
        *,
        styles: Sequence[str] = (),
        below: int = 0,
    ) -> None:
        """Rows under headings; a heading that ends in ``>`` is of a column of numbers, ``styles`` colours the rows.

        Where the terminal is too narrow, the last ``below`` columns go onto a line of their own below each row.
        """
        columns, rows = [_cell(column) for column in columns], [[_cell(cell) for cell in row] for row in rows]
        whole = _table(columns, rows, styles)
        if not below or self._measured(whole).maximum <= self._console.width:
            self._blocks.append(self._rendered(whole))
            return
        shown = len(columns) - below
        heading, *lines = self._rendered(_table(columns[:shown], [row[:shown] for row in rows], styles)).splitlines()
        self._blocks.append(f"{heading}\n")
        for line, row in zip(lines, rows, strict=True):
            self._blocks.append(f"{line}\n")
            self.pairs([("  ", "; ".join(row[shown:]))])

    def code(self, lines: Sequence[str]) -> None:
        """Lines to copy: indented, never wrapped."""
        self._blocks.append("".join(f"  {shown(line)}".rstrip() + "\n" for line in lines))

    def print(self) -> None:
        """Everything, to stdout."""
        text = "".join(self._blocks)
        reconfigure = getattr(self._stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a class name in another script must not end the command
        click.echo(text, file=self._stream, nl=False, color=takes_escapes(self._stream))

    def _add(self, renderable: RenderableType, *, before: str = "") -> None:
        self._blocks.append(before + self._rendered(renderable))

    def _measured(self, renderable: RenderableType) -> Measurement:
        from rich.measure import Measurement

        return Measurement.get(self._console, self._console.options.update(max_width=PIPED_WIDTH), renderable)

    def _rendered(self, renderable: RenderableType, *, at_most: int = PIPED_WIDTH) -> str:
        # A terminal that is too narrow for the numbers wraps the lines itself; rich would cut digits off.
        width = self._console.width
        self._console.width = max(width, min(at_most, self._measured(renderable).minimum))
        with self._console.capture() as captured:
            self._console.print(renderable)
        self._console.width = width
        text = captured.get()
        return text if takes_escapes(self._stream) else "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], styles: Sequence[str]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for number, column in enumerate(columns):
        numbers = column.endswith(">")
        whole = numbers or number == 0
        cells = [row[number] if number else f"  {row[number]}" for row in rows]
        heading = ("" if number else "  ") + column.removesuffix(">")
        longest = max(map(len, [heading, *cells]))
        table.add_column(
            heading,
            justify="right" if numbers else "left",
            no_wrap=whole,
            min_width=longest if whole else min(longest, SHORTEST_COLUMN),
            overflow="fold",
        )
    for number, row in enumerate(rows):
        table.add_row(f"  {row[0]}", *row[1:], style=styles[number] if styles else None)
    return table


def _cell(text: str) -> str:
    cut = re.sub(rf"(\S{{{LONGEST_WORD - 1}}})\S{{2,}}", r"\1…", shown(text))
    return cut if len(cut) <= LONGEST_CELL else f"{cut[: LONGEST_CELL - 1]}…"


def _styled(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(text, style=style)


# Progress ------------------------------------------------------------------------------------------------------------


def bar_on(stream: TextIO, *columns: ProgressColumn) -> Progress:
    """A bar that is gone when it is over."""
    from rich.progress import Progress

    return Progress(*columns, console=console_on(stream), expand=True, transient=True)


def words_column(template: str) -> TextColumn:
    """A part of a bar that is words: ``{task.description}``."""
    from rich.progress import TextColumn
    from rich.text import Text

    class Words(TextColumn):
        def render(self, task: Any) -> Text:
            return Text(shown(self.text_format.format(task=task)))

    return Words(template)
