"""Nothing that a stranger wrote moves the cursor, colours the screen or turns the direction of reading."""

from __future__ import annotations

import ast
import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import latentstore_cli
import pytest
from latentstore_cli.output import LONGEST_CELL, LONGEST_WORD, Page, failure, print_json, print_lines, words_column
from latentstore_cli.progress import CheckDisplay
from latentstore_cli.transfers import TransferDisplay
from strangers_words import WORDS

import latentstore
from latentstore.errors import RequestError
from latentstore.manifest import with_digest
from latentstore.printable import HIDDEN, printable
from latentstore.publishing.records import PublishProgress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run, RunOnTerminal

WORD = " ".join(WORDS.values()) + "[red]x[/red][link=http://x]y[/link]:smile:"
PRINTING = {
    *("echo", "secho", "confirm", "prompt", "pause", "progressbar", "echo_via_pager", "clear", "edit", "getchar"),
    *("print", "input", "os.write", "breakpoint", "traceback.print_exc", "displayhook", "excepthook"),
}
BARS = {"Progress", "BarColumn", "MofNCompleteColumn", "TaskProgressColumn", "DownloadColumn", "TransferSpeedColumn"}
"""Of rich: what shows numbers, and no words."""


# One place -----------------------------------------------------------------------------------------------------------


def printing_in(path: Path) -> Iterator[str]:
    """What in a file writes on the terminal past ``output.py``."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        called = node.func if isinstance(node, ast.Call) else None
        name = ast.unparse(called).removeprefix("click.") if called is not None else ""
        if name in PRINTING:
            yield name
        if isinstance(node, ast.Attribute) and node.attr in ("write", "writelines", "buffer"):
            owner = ast.unparse(node.value)
            if owner.endswith(("stdout", "stderr")) or owner == "os":
                yield f"{owner}.{node.attr}"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rich"):
            yield from (a.name for a in node.names if a.name not in BARS)
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name.startswith("rich"))


FILES = sorted(Path(str(latentstore_cli.__file__)).parent.glob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_nothing_but_one_module_prints(path: Path) -> None:
    found = [*printing_in(path)]
    assert bool(found) == (path.name == "output.py"), found


@pytest.mark.parametrize(
    "code",
    ["import click\nclick.echo('x')", "print('x')", "sys.stdout.write('x')", "from rich.table import Table"],
)
def test_that_is_noticed(code: str, tmp_path: Path) -> None:
    (tmp_path / "x.py").write_text(code)
    assert [*printing_in(tmp_path / "x.py")]


# Printable -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("\x1b]0;a\x07", r"\x1b]0;a\x07"),
        ("a\nb\tc\rd", r"a\nb\tc\rd"),
        ("\x9b31m\x7f\x00", r"\x9b31m\x7f\x00"),
        ("\u202egpj.exe\u2066\u061c\u200f", r"\u202egpj.exe\u2066\u061c\u200f"),
        ("a\u200bb\u2028c\u2029\ufeff\xad", r"a\u200bb\u2028c\u2029\ufeff\xad"),
        ("\U000e0041\udc80", r"\U000e0041\udc80"),
        ("a\u200db", r"a\u200db"),
    ],
)
def test_what_is_not_seen_is_an_escape(text: str, seen: str) -> None:
    assert printable(text) == seen
    assert printable(seen) == seen
    assert seen.isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "Grünfläche",
        "森林",
        "лес",
        "غابة",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "🌲",
        "❤️",
        "👩‍🌾",
        "a\\x1b",
        "é",
        "e\u0301",
    ],
)
def test_ordinary_letters_stay(text: str) -> None:
    assert printable(text) == text


# Pages ---------------------------------------------------------------------------------------------------------------


def is_clean(text: str) -> bool:
    return HIDDEN.search(text.replace("\n", "")) is None


def test_a_page_shows_words_as_they_are_in_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    page = Page()
    page.heading(WORD)
    page.line(WORD)
    page.pairs([(WORD, WORD)])
    page.table([WORD, WORD], [[WORD, WORD], [WORD, WORD]], below=1)
    page.code([WORD])
    page.print()
    text = capsys.readouterr().out
    assert is_clean(text)
    assert text.count("[red]x[/red][link=http://x]y[/link]:smile:") == 11
    assert len(text.splitlines()) == 7


def test_long_words_are_cut_in_tables_and_whole_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    name, long = "n" * LONGEST_WORD, "x" * 1_000_000
    page = Page()
    page.table(["a", "b"], [[name, long], [long, "a b " * 1_000_000]])
    page.pairs([(name, long)])
    page.print()
    text = capsys.readouterr().out
    assert name in text
    assert f"{'x' * (LONGEST_WORD - 1)}…" in text
    assert "x" * LONGEST_WORD not in text
    assert max(map(len, text.splitlines())) < 2 * LONGEST_CELL
    print_json([long])
    assert json.loads(capsys.readouterr().out) == [long]


def test_json_has_the_very_values_and_no_sign_that_a_terminal_obeys(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    value = {"Wälder 森林": [WORD, "a\nb", 1.5], WORD: None}
    for encoding in ("utf-8", "ascii"):
        monkeypatch.setattr(type(sys.stdout), "encoding", encoding, raising=False)
        print_json(value)
        text = capsys.readouterr().out
        assert json.loads(text) == value
        assert is_clean(text)
        assert ("森林" in text) == (encoding == "utf-8")


def test_several_lines_stay_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_lines("a\x1b\n| b |\n")
    assert capsys.readouterr().out == "a\\x1b\n| b |\n"
    assert failure("a\x1b\nb").message == r"a\x1b\nb"


def test_lines_of_progress_show_words_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latentstore_cli.progress.SECONDS_BETWEEN_LINES", 0.0)
    with TransferDisplay() as display:
        display(PublishProgress("send", WORD, 1, 2))
    with CheckDisplay() as checks:
        checks.of(WORD)("shards", 1, 2)
    text = capsys.readouterr().err
    assert is_clean(text)
    assert text.count("[red]x[/red]") == len(text.splitlines()) == 2


def test_bars_show_words_as_they_are() -> None:
    task: Any = SimpleNamespace(description=WORD, fields={"figures": WORD})
    for template in ("{task.description}", "{task.fields[figures]}"):
        shown = words_column(template).render(task)
        assert is_clean(shown.plain)
        assert "[red]x[/red]" in shown.plain
        assert shown.spans == []


# Commands ------------------------------------------------------------------------------------------------------------

PLACES = (
    *("source.name", "source.location", "source.licence", "source.revision", "source.classes.0", "source.notes"),
    *("vae.class_name", "vae.repo", "vae.licence", "vae.revision", "posterior", "preparation.pad", "storage.name"),
    *("environment.device", "environment.versions.python", "quality.psnr.title", "quality.psnr.worst.0"),
    *("quality.psnr.protocol", "build.order", "build.skipped.0.reason", "build.skipped.0.source_path", "config"),
    *(
        "quality.psnr.unit",
        "splits.train.shards.0.path",
        "index.path",
        "storage.container",
        "format_version",
        "metrics",
    ),
)


def changed(data: dict[str, Any], place: str, word: str) -> str:
    *parents, last = place.split(".")
    inner: Any = data
    for step in parents:
        inner = inner[int(step) if step.isdigit() else step]
    key = int(last) if last.isdigit() else last
    inner[key] = [word] if isinstance(inner[key], list) else word
    return with_digest(data)


@pytest.mark.parametrize("place", PLACES)
def test_a_word_of_a_manifest_is_shown_or_refused_without_escapes(place: str, run: Run, copy: Path) -> None:
    path = copy / "tiny-pool8" / "manifest.json"
    path.write_text(changed(json.loads(path.read_text()), place, WORD.replace("\ud800", "")), encoding="utf-8")
    for arguments in (["show", copy], ["verify", copy, "--quick"], ["convert", copy, "--out", copy / "x"]):
        result = run(*arguments)
        assert is_clean(result.output), arguments
        assert result.exit_code in (0, 1)
    shown = run("show", copy, "--json")
    if shown.exit_code == 0:
        assert is_clean(shown.stdout)
        assert json.loads(shown.stdout) == json.loads(path.read_text())
    else:
        assert len(shown.stderr.splitlines()) == 1


def test_errors_notes_warnings_and_questions_are_clean(run: Run, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_this(error: Exception) -> Any:
        def command(*_: object, **__: object) -> None:
            warnings.filterwarnings("always", module="latentstore")
            warnings.warn_explicit(WORD, UserWarning, "x", 1, module="latentstore")
            raise error

        return command

    for error in (RequestError(WORD), OSError(2, WORD, f"/x{WORD}"), KeyboardInterrupt()):
        monkeypatch.setattr(latentstore, "verify", raise_this(error))  # type: ignore[arg-type]
        result = run("verify", copy)
        assert result.exit_code in (1, 130)
        assert is_clean(result.output)
        assert "Warning: " in result.stderr
    assert is_clean(run("verify", copy, "--sample", WORD.replace("\x00", "")).output)
    assert is_clean(run("show", WORD.replace("\x00", "")).output)
    assert is_clean(run("list", WORD.replace("\x00", "")).output)


def test_on_a_terminal_the_only_escapes_are_ours(run_on_terminal: RunOnTerminal, copy: Path) -> None:
    path = copy / "tiny-pool8" / "manifest.json"
    data = json.loads(path.read_text())
    text = changed(data, "source.name", "\x1b]0;owned\x07\x9b5m\u202e[red]x[/red]")
    path.write_text(text, encoding="utf-8")
    shown = run_on_terminal("show", copy, columns=120)
    assert shown.exit_code == 0
    assert r"\x1b]0;owned\x07\x9b5m\u202e[red]x[/red]" in shown.text
    assert "\x1b]0;" not in shown.text
    assert "\x9b" not in shown.text
    assert "\u202e" not in shown.text
