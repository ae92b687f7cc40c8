"""What a stranger's dataset may be given to: every command, and the library where it is called directly."""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .scratch import CONFIG, LARGE, PICTURES, Scratch, draw_pictures

BUCKET = "/stranger"
"""Of the stranger's repository in memory, which fsspec takes for a bucket."""

DATASET, TARGET, KEYS, WEB, SOURCE, TABLE, CACHE = "dataset", "target", "keys", "web", "source", "table", "cache"
"""What of a command a stranger may have written: the dataset it reads, what lies where it writes, the keys of a bucket,
a web server's answers, the pictures of a source, a table of pictures, the cache."""


@dataclass(frozen=True)
class Said:
    """What a command answered."""

    code: int
    out: str = ""
    err: str = ""
    error: BaseException | None = None
    """That no command should end with."""
    exact: bool = False
    """Whether the output is for programs, so that nothing in it is made harmless for people."""


@dataclass(frozen=True)
class Command:
    """One command, or one use of the library."""

    name: str
    stands_for: str
    """A command of the command line; empty for the library alone."""
    faces: frozenset[str]
    run: Callable[[Scratch], Said]
    writes: Callable[[Scratch], tuple[Path, ...]] = lambda scratch: ()  # noqa: ARG005
    """Folders in which it may make, change and remove files of the dataset's."""
    named: bool = False
    """Whether the user named the web server."""
    card: Callable[[Scratch], Path] = lambda scratch: scratch.target / "README.md"
    """The card that it may write."""
    prepare: Callable[[Scratch], None] = lambda scratch: None  # noqa: ARG005
    """What the user has done before."""


def typed(*words: Any) -> Said:
    """Run the command line in this process."""
    import click
    from click.testing import CliRunner
    from latentstore_cli.main import main

    found = CliRunner().invoke(main, [str(word) for word in words])
    ended = found.exception if not isinstance(found.exception, SystemExit | None | click.ClickException) else None
    return Said(found.exit_code, found.stdout, found.stderr, ended, exact="--json" in words)


def called(use: Callable[[], Any]) -> Said:
    """Call the library; its own errors are an answer."""
    from latentstore import LatentStoreError

    try:
        use()
    except LatentStoreError as error:
        return Said(1, err=f"Error: {error}\n", exact=True)
    except Exception as error:  # noqa: BLE001 (what it must not end with)
        return Said(1, error=error)
    return Said(0)


def in_memory(scratch: Scratch) -> str:
    """The stranger's repository in a bucket, with keys that no disk could have; its URL."""
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    files = MemoryFileSystem()
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    for path in scratch.repo.rglob("*"):
        if stat.S_ISREG(path.lstat().st_mode) and path.lstat().st_size < LARGE:
            files.pipe_file(f"{BUCKET}/{path.relative_to(scratch.repo).as_posix()}", path.read_bytes())
    for key, content in scratch.keys.items():
        MemoryFileSystem.store[f"{BUCKET}/{key}"] = MemoryFile(files, f"{BUCKET}/{key}", content)
    return f"memory:/{BUCKET}"


def _loads(location: Any, **options: Any) -> Said:
    """One batch, with every column, and what it looks like."""

    def use() -> None:
        from latentstore import load_latents, open_store

        columns = open_store(location).schema.scalar_columns
        dataset: Any = load_latents(location, columns=columns, **options)
        batch = next(iter(dataset.loader(batch_size=4, shuffle=True, seed=0)))
        assert batch["latent"].shape[0] == min(4, len(dataset)) if hasattr(dataset, "__len__") else True

    return called(use)


def _decodes(scratch: Scratch) -> Said:
    def use() -> None:
        from latentstore import load_latents

        dataset = load_latents(scratch.repo)
        dataset.decode(dataset.batch(range(2))["latent"])

    return called(use)


def _filters(scratch: Scratch) -> Said:
    def use() -> None:
        from latentstore import load_latents

        dataset = load_latents(scratch.repo, filter="psnr > 0")
        dataset.batch(range(min(2, len(dataset))))

    return called(use)


def _renders(scratch: Scratch) -> Said:
    def use() -> None:
        from latentstore.card import render_card
        from latentstore.manifest import Manifest

        card = scratch.repo / "README.md"
        previous = card.read_text("utf-8", "replace") if card.is_file() else None
        for before in (None, previous):
            text = render_card([Manifest.read(scratch.config)], before)
            (scratch.target / "README.md").write_text(text, encoding="utf-8")

    return called(use)


def _pushes_from_memory(scratch: Scratch) -> Said:
    """The user's own dataset into a bucket in which the stranger has been."""
    return typed("push", scratch.honest, in_memory(scratch), *PUBLISH)


def _clears(_: Scratch) -> Said:
    done = typed("cache", "list")
    return done if done.code else typed("cache", "clear")


def _one_more_picture(scratch: Scratch) -> None:
    draw_pictures(scratch.home / "photos", PICTURES, PICTURES + 1)


def _append(scratch: Scratch) -> Said:
    words = ("--storage", "int8", "--rows-per-shard", 9, "--calibration", 9, "--threads", 1)
    return typed("build", "photos", "--vae", "pool8", "--out", scratch.repo, "--config", CONFIG, "--append", *words)


def _folder_inside(scratch: Scratch) -> tuple[Path, ...]:
    return (scratch.target,)


def _repository(scratch: Scratch) -> tuple[Path, ...]:
    return (scratch.repo,)


def _card_there(scratch: Scratch) -> Path:
    return scratch.repo / "README.md"


PUBLISH = ("--license", "cc0-1.0", "--yes")
READS = frozenset({DATASET})
FROM_BUCKET = frozenset({DATASET, KEYS})
FROM_WEB = frozenset({DATASET, WEB})
WRITES = frozenset({DATASET, TARGET})

_ROWS = [
    Command("load", "", READS, lambda s: _loads(s.repo)),
    Command("load by config", "", READS, lambda s: _loads(s.config)),
    Command("load, decoded in the cache", "", READS | {CACHE}, lambda s: _loads(s.repo, cache=s.cache)),
    Command("load with a filter", "", READS, _filters),
    Command("decode", "", READS, _decodes),
    Command("stream file://", "", READS, lambda s: _loads(f"file://{s.repo}", streaming=True)),
    Command("stream memory://", "", FROM_BUCKET, lambda s: _loads(in_memory(s), streaming=True)),
    Command("stream http://", "", FROM_WEB, lambda s: _loads(f"{s.web}/{CONFIG}", streaming=True), named=True),
    Command("card", "", READS, _renders, _folder_inside),
    Command("show", "show", READS, lambda s: typed("show", s.repo)),
    Command("show --json", "show", READS, lambda s: typed("show", s.repo, "--json")),
    Command("show http://", "show", FROM_WEB, lambda s: typed("show", s.web), named=True),
    Command("verify --quick", "verify", READS, lambda s: typed("verify", s.repo, "--quick")),
    Command("verify", "verify", READS, lambda s: typed("verify", s.repo)),
    Command("verify --full", "verify", READS, lambda s: typed("verify", s.repo, "--full")),
    Command("verify http://", "verify", FROM_WEB, lambda s: typed("verify", f"{s.web}/{CONFIG}"), named=True),
    Command("verify memory://", "verify", FROM_BUCKET, lambda s: typed("verify", in_memory(s))),
    Command(
        "convert",
        "convert",
        WRITES,
        lambda s: typed("convert", s.repo, "--layout", "fast", "--out", s.target),
        _folder_inside,
    ),
    Command("append", "build", READS, _append, _repository, card=_card_there, prepare=_one_more_picture),
    Command("build --status", "build", READS, lambda s: typed("build", "--status", s.config)),
    Command("pull", "pull", WRITES, lambda s: typed("pull", s.repo, s.target), _folder_inside),
    Command(
        "pull memory://",
        "pull",
        WRITES | {KEYS},
        lambda s: typed("pull", in_memory(s), s.target),
        _folder_inside,
    ),
    Command("push", "push", WRITES, lambda s: typed("push", s.repo, s.target, *PUBLISH), _folder_inside),
    Command(
        "push beside",
        "push",
        READS,
        lambda s: typed("push", s.honest, s.repo, *PUBLISH),
        _repository,
        card=_card_there,
    ),
    Command("push memory:// beside", "push", FROM_BUCKET, _pushes_from_memory),
    Command("drop", "drop", READS, lambda s: typed("drop", s.repo, CONFIG, "--yes"), _repository, card=_card_there),
    Command("drop memory://", "drop", FROM_BUCKET, lambda s: typed("drop", in_memory(s), CONFIG, "--yes")),
    Command(
        "build",
        "build",
        frozenset({SOURCE, TARGET}),
        lambda s: typed("build", s.home / "source" / "photos", "--vae", "pool8", "--out", s.target, "--config", CONFIG),
        _folder_inside,
    ),
    Command(
        "build hub:",
        "build",
        frozenset({TABLE}),
        lambda s: typed("build", "hub:./source/table", "--vae", "pool8", "--out", s.target, "--config", CONFIG),
        _folder_inside,
    ),
    Command(
        "build --streaming",
        "build",
        frozenset({TABLE}),
        lambda s: typed(
            "build", "hub:./source/table", "--streaming", "--vae", "pool8", "--out", s.target, "--order", "source"
        ),
        _folder_inside,
    ),
    Command(
        "compare",
        "compare",
        frozenset({SOURCE}),
        lambda s: typed("compare", s.home / "source" / "photos", "--vae", "pool8"),
    ),
    Command("cache", "cache", frozenset({CACHE}), _clears, lambda s: (s.cache,)),
]
COMMANDS = {row.name: row for row in _ROWS}
NOT_FACED = {
    "list": "reads nothing but the tables of the package",
    "fetch": "gets files by the sha256 in a table, into a folder that the user names; see test_what_held.py",
}
"""Commands of the command line that nothing of a stranger's reaches."""
