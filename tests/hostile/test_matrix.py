"""Attacks by commands: a drawn part of the table finds nothing, and what it looks for it would find."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from latentstore_cli.main import COMMANDS as COMMAND_LINE
from range_server import serving

from hostile.attacks import Attack, field_attacks, file_attacks
from hostile.commands import COMMANDS, DATASET, NOT_FACED, Command, Said, called, typed
from hostile.fields import filled as filled_manifest
from hostile.fields import leaves
from hostile.matrix import (
    FAILURE,
    FIELDS,
    FILES,
    HARMLESS,
    REFUSED,
    Cell,
    Laboratory,
    attacks_of,
    made_home,
    run_all,
    sampled,
)
from hostile.scratch import CONFIG, Scratch
from latentstore.errors import StoreError
from latentstore.manifest import Manifest

SEED = 13


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(made_home(tmp_path_factory.mktemp("hostile") / "home"))


@pytest.fixture(scope="module")
def attacks(home: Path) -> dict[str, list[Attack]]:
    return {part: list(attacks_of(home, part).values()) for part in (FIELDS, FILES)}


# The table ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [FIELDS, FILES])
def test_no_attack_has_an_effect_and_every_refusal_is_one_sentence(
    home: Path, attacks: dict[str, list[Attack]], part: str
) -> None:
    tried = attacks[part] if part == FIELDS else attacks[part][::2]  # half of them, for the sake of time
    results = list(run_all(home, part, sampled(tried, part, SEED)))
    failed = [f"{cell.name}: {outcome.note}" for cell, outcome in results if outcome.kind == FAILURE]
    assert failed == []
    kinds = Counter(outcome.kind for _, outcome in results)
    assert kinds[REFUSED] > 40
    assert kinds[HARMLESS] > 40


def test_a_new_command_is_attacked_or_says_why_not() -> None:
    assert {row.stands_for for row in COMMANDS.values()} - {""} | set(NOT_FACED) == set(COMMAND_LINE)
    assert all(reason for reason in NOT_FACED.values())


def records(hint: Any) -> Iterator[Any]:
    """Every dataclass that this type leads to."""
    if is_dataclass(hint):
        yield hint
        for inner in get_type_hints(hint).values():
            yield from records(inner)
    for argument in get_args(hint):
        yield from records(argument)


def test_a_new_field_of_the_manifest_is_attacked(home: Path, attacks: dict[str, list[Attack]]) -> None:
    found = list(leaves(filled_manifest(Scratch(home).manifest())))
    attacked = {part for leaf in found for part in leaf.path}
    named = {field.name for record in records(Manifest) for field in fields(record)}
    assert named - attacked == {"digest"}  # right in every attack, because whoever writes a manifest computes it
    assert {attack.where for attack in attacks[FIELDS]} == {leaf.words for leaf in found}


def test_every_attack_is_faced_by_a_command_and_has_a_name_of_its_own(
    home: Path, attacks: dict[str, list[Attack]]
) -> None:
    faced = {face for command in COMMANDS.values() for face in command.faces}
    assert {attack.face for attack in attacks[FILES]} == faced
    names = Counter(attack.name for attack in [*field_attacks(Scratch(home).manifest()), *file_attacks()])
    assert [name for name, count in names.items() if count > 1] == []


def test_a_sample_is_the_same_again_and_gives_every_command_and_field_its_turn(
    attacks: dict[str, list[Attack]],
) -> None:
    one, same, other = (sampled(attacks[FIELDS], FIELDS, seed) for seed in (1, 1, 2))
    assert [cell.name for cell in one] == [cell.name for cell in same]
    assert [cell.name for cell in one] != [cell.name for cell in other]
    assert {cell.attack.where for cell in one} == {attack.where for attack in attacks[FIELDS]}
    facing = {row.name for row in COMMANDS.values() if DATASET in row.faces}
    assert {cell.command.name for cell in one} == facing


# What would be found --------------------------------------------------------------------------------------------------


@pytest.fixture
def laboratory(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laboratory]:
    """In this process."""
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(home)
    with serving(home) as web, serving(home) as elsewhere:
        yield Laboratory(home, web, elsewhere)


def judged(
    laboratory: Laboratory, run: Callable[[Scratch], Said], plant: Callable[[Scratch], None] | None = None
) -> Any:
    command = Command("made up", "", frozenset({DATASET}), run, lambda scratch: (scratch.target,))
    return laboratory.run(Cell(Attack("group", "where", "what", DATASET, plant or (lambda _: None)), command))


def does(act: Callable[[Scratch], Any]) -> Callable[[Scratch], Said]:
    """A command that does this and says that all is well."""

    def run(scratch: Scratch) -> Said:
        act(scratch)
        return Said(0)

    return run


def connects(scratch: Scratch) -> None:
    host, _, port = scratch.elsewhere.removeprefix("http://").partition(":")
    socket.create_connection((host, int(port))).close()


def a_card(text: str) -> Callable[[Scratch], Any]:
    """A card that a command leaves behind."""
    begin, end = '<!-- latentstore:begin {"configs": []} -->', "<!-- latentstore:end -->"
    return lambda scratch: (scratch.target / "README.md").write_text(f"---\na: 1\n---\n{begin}\n\n{text}\n\n{end}\n")


@pytest.mark.parametrize(
    ("act", "found"),
    [
        (lambda s: (s.home / "new.txt").write_text("x"), "made new.txt"),
        (lambda s: (s.home / "victim.txt").unlink(), "removed victim.txt"),
        (lambda s: (s.home / "work" / "victim.txt").write_text("x"), "changed work/victim.txt"),
        (lambda s: (s.home / "photos" / "x").symlink_to("/etc"), "made photos/x"),
        (
            lambda s: (s.repo / CONFIG / "manifest.json").touch() or (s.repo / CONFIG / "x").touch(),
            f"made stranger/repo/{CONFIG}/x",
        ),
        (lambda s: (s.private / "letter.txt").read_text(), "opened /private/letter.txt"),
        (lambda s: list((s.private / "pictures").iterdir()), "opened /private/pictures"),
        (lambda _: os.system("true"), "started "),  # noqa: S605
        (connects, "contacted 127.0.0.1:"),
        (lambda _: bytearray(600 << 20), "MiB of memory"),
        (a_card("hello <img src=x onerror=alert(1)>"), "raw HTML on the card"),
        (a_card("[pwned](https://pwned.example)"), "a link of the stranger's on the card"),
        (a_card("# pwned"), "a heading or paragraph of the stranger's"),
        (lambda s: s.excess.append("more than enough"), "more than enough"),
    ],
)
def test_what_must_not_happen_is_a_failure(laboratory: Laboratory, act: Callable[[Scratch], Any], found: str) -> None:
    outcome = judged(laboratory, does(act))
    assert outcome.kind == FAILURE
    assert found in outcome.note


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (Said(1, error=KeyError("rows")), "traceback KeyError: \"'rows'\""),
        (Said(2, err="Usage: x"), "exit code 2"),
        (Said(1), "exit 1 and no sentence"),
        (Said(1, err="Error: one\nError: two\n"), "2 errors"),
        (Said(1, err=f"Error: {'a' * 30_000}\n"), "a sentence of 30007 characters"),
        (Said(0, out="class \x1b[31mforest"), "the terminal gets"),
        (Said(0, out="class \u202eforest"), "the terminal gets"),
        (Said(0, out="class\nFAKE LINE"), "the terminal gets"),
        (Said(0, out="the-secret-of-this-home"), "shows a private file"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(laboratory: Laboratory, said: Said, found: str) -> None:
    outcome = judged(laboratory, lambda _: said)
    assert outcome.kind == FAILURE
    assert found in outcome.note


def test_a_file_of_the_users_own_may_be_neither_removed_nor_changed(laboratory: Laboratory) -> None:
    def plant(scratch: Scratch) -> None:
        scratch.mine(scratch.target / "one")
        scratch.mine(scratch.target / "two")

    def act(scratch: Scratch) -> None:
        (scratch.target / "one").unlink()
        (scratch.target / "two").write_text("changed")
        (scratch.target / "three").write_text("may be made")

    outcome = judged(laboratory, does(act), plant)
    assert outcome.note == (
        "removed the user's work/target/one; changed the user's work/target/two and said that all is well"
    )


def test_one_sentence_is_a_refusal_and_success_without_effect_is_harmless(laboratory: Laboratory) -> None:
    def refuse() -> None:
        raise StoreError("It is not as it should be.")

    assert judged(laboratory, lambda _: called(refuse)).kind == REFUSED
    assert judged(laboratory, lambda _: called(lambda: None)).kind == HARMLESS
    assert judged(laboratory, lambda scratch: typed("show", scratch.home / "nothing")).kind == REFUSED
    assert judged(laboratory, lambda scratch: typed("show", scratch.repo)).kind == HARMLESS


def test_what_waits_for_ever_is_stopped(laboratory: Laboratory) -> None:
    laboratory.seconds = 0.3

    def plant(scratch: Scratch) -> None:
        os.mkfifo(scratch.home / "pipe")

    outcome = judged(laboratory, does(lambda scratch: (scratch.home / "pipe").read_bytes()), plant)
    assert outcome.kind == FAILURE
    assert outcome.note.startswith("not done after 0.3 s")
