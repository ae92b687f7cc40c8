"""What a stranger plants: every field of a manifest, and every file, listing, journal, card and answer. Rows are data.

A row says what is planted; how it is sealed again (digest, sha256, sizes, sums) is part of planting it, because whoever
writes a dataset also writes its checksums. ``fields.py`` finds the fields, ``words.py`` has what is put into them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from .commands import CACHE, DATASET, KEYS, SOURCE, TABLE, TARGET, WEB
from .fields import KEY, NUMBER, Leaf, agreeing, filled, is_repeated, leaves, planted
from .scratch import CONFIG, MINE, SHARD, Scratch
from .words import ESCAPES, KINDS, NUMBERS, TEXTS, deep

Plant = Callable[[Scratch], None]
HUGE = 700 << 20
"""Bytes of a file without content, which takes no room on disk and much in memory."""
ODD_NAMES = ("two dots", "a dot", "empty", "a slash", "longer than names", "escapes")
"""Further words that no file and no config may be called."""
CONFIG_FILES = ("manifest.json", "index.parquet", SHARD, "preview.png", "skipped.jsonl")


@dataclass(frozen=True)
class Attack:
    """One thing that is planted."""

    group: str
    """A line of the printed table."""
    where: str
    """The field, or the file."""
    what: str
    face: str
    """Which commands it concerns: those that face this."""
    plant: Plant

    @property
    def name(self) -> str:
        """For people, and to ask for it again."""
        return f"{self.group}: {self.where}: {self.what}"


# Fields of the manifest -----------------------------------------------------------------------------------------------


def field_attacks(data: Mapping[str, Any]) -> Iterator[Attack]:
    """Every field with every hostile value; once there alone, once wherever the manifest says the same."""
    whole = filled(data)
    for leaf in leaves(whole):
        values = NUMBERS if leaf.kind == NUMBER else TEXTS
        group = {NUMBER: "manifest numbers", KEY: "manifest names"}.get(leaf.kind, "manifest words")
        repeated = is_repeated(data, whole, leaf)
        for what, value in values.items():
            plant = partial(_field, whole, leaf, value)
            yield Attack(group, leaf.words, what, DATASET, plant)
            if repeated:
                yield Attack(group, leaf.words, f"{what}, everywhere", DATASET, partial(plant, everywhere=True))
        if leaf.kind != KEY:
            for what, value in KINDS.items():
                yield Attack("manifest kinds", leaf.words, what, DATASET, partial(_field, whole, leaf, value))


def _field(whole: Any, leaf: Leaf, value: Any, scratch: Scratch, *, everywhere: bool = False) -> None:
    value = deep() if value == "@DEEP@" else scratch.fill(value) if isinstance(value, str) else value
    scratch.seal(agreeing(planted(scratch.manifest(), whole, leaf, value, everywhere=everywhere)))


ACTS: dict[str, dict[str, dict[str, Any]]] = {
    "a private folder as the source": {"source": {"location": "@HOME@/private/pictures", "name": "folder"}},
    "a system folder as the source": {"source": {"location": "/etc", "name": "folder"}},
    "a Hub dataset as the source": {
        "source": {"location": "evil/pictures", "name": "evil/pictures", "reader": "open_hub_images"},
    },
    "a URL as the source": {"source": {"location": "@ELSEWHERE@/pictures", "reader": "open_hub_images"}},
    "a table of private pictures": {
        "source": {"location": "@HOME@/private", "name": "private", "reader": "open_hub_images"},
    },
    "five million scenes": {
        "source": {"name": "synthetic", "location": "", "reader": "open_scenes", "options": {"count": 5_000_000}},
    },
    "huge scenes": {
        "source": {"name": "synthetic", "location": "", "reader": "open_scenes", "options": {"size": 60_000}},
    },
    "a Hub repository as the VAE": {"vae": {"name": "evil", "class_name": "AutoencoderKL", "repo": "evil/vae"}},
    "a private folder as the VAE": {
        "vae": {"name": "evil", "class_name": "AutoencoderKL", "repo": "@HOME@/private"},
    },
    "a parent of a folder as the VAE": {
        "vae": {"name": "evil", "class_name": "AutoencoderKL", "repo": "evil/vae", "subfolder": "../../private"},
    },
    "a VAE of the table with another repository": {
        "vae": {"name": "sd-vae-ft-mse", "class_name": "AutoencoderKL", "repo": "evil/vae", "channels": 3},
    },
}
"""Fields that together name something to open, contact or compute."""


def _acts(changes: Mapping[str, Mapping[str, Any]], scratch: Scratch) -> None:
    data = scratch.manifest()
    for part, fields in changes.items():
        data[part] |= {name: scratch.fill(value) if isinstance(value, str) else value for name, value in fields.items()}
    scratch.seal(data)


# The manifest as a file -----------------------------------------------------------------------------------------------


def _raw_manifest(text: Callable[[str], bytes], scratch: Scratch) -> None:
    (scratch.config / "manifest.json").write_bytes(text((scratch.config / "manifest.json").read_text()))


MANIFEST_TEXTS: dict[str, Callable[[str], bytes]] = {
    "brackets": lambda _: b"[" * 200_000,
    "an object of brackets": lambda _: b'{"format_version": "1.0", "config": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no UTF-8": lambda text: text.encode("utf-16"),
    "a number of 5,000 digits": lambda text: text.replace('"rows": 9', f'"rows": {"9" * 5000}').encode(),
    "a number beyond floats": lambda text: text.replace('"step_sigma": 0.0625', '"step_sigma": 1e999').encode(),
    "NaN": lambda text: text.replace('"step_sigma": 0.0625', '"step_sigma": NaN').encode(),
    "a version of 100,000 digits": lambda _: b'{"format_version": "' + b"1" * 100_000 + b'.0"}',
    "a minor version of 5,000 digits": lambda _: b'{"format_version": "1.' + b"1" * 5_000 + b'"}',
    "a version in another script": lambda _: '{"format_version": "\u0661.\u0660"}'.encode(),
    "two of everything": lambda text: text.replace('"config":', '"config": "../victim.txt", "config":', 1).encode(),
    "cut": lambda text: text.encode()[: len(text) // 2],
    "nothing": lambda _: b"",
}


# Files as what they should not be -------------------------------------------------------------------------------------


def _fifo(path: Path, _: Scratch) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _folder(path: Path, _: Scratch) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _huge(path: Path, _: Scratch) -> None:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(HUGE)


def _link(to: str, path: Path, scratch: Scratch) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(scratch.fill(to))


SHAPES: dict[str, Callable[[Path, Scratch], None]] = {
    "a pipe": _fifo,
    "a folder": _folder,
    "700 MiB of nothing": _huge,
    "a link to a private file": partial(_link, "@HOME@/private/letter.txt"),
    "a link to the user's file": partial(_link, "../../victim.txt"),
    "a link to itself": partial(_link, "loop"),
    "a link to an endless device": partial(_link, "/dev/zero"),
}
"""What lies under a name instead of a file."""


def _shape(name: str, shape: Callable[[Path, Scratch], None], scratch: Scratch) -> None:
    """The stranger's file of this name, and size and sha256 of what is there now where it can be listed."""
    shape(scratch.repo / name, scratch)
    if not name.endswith(("manifest.json", "README.md")):
        data = scratch.manifest()
        listed = [*(shard for split in data["splits"].values() for shard in split["shards"]), data["index"]]
        for entry in listed:
            path = scratch.config / entry["path"]
            if f"{CONFIG}/{entry['path']}" == name and path.is_file():
                content = path.read_bytes() if path.stat().st_size < HUGE else b""
                entry |= {"bytes": path.stat().st_size, "sha256": hashlib.sha256(content).hexdigest()}
        data["size"]["stored_bytes"] = sum(entry["bytes"] for entry in listed[:-1])
        scratch.seal(data)


# Contents of shards and index -----------------------------------------------------------------------------------------


def _content(name: str, make: Callable[[bytes], bytes], scratch: Scratch) -> None:
    path = scratch.config / name
    path.write_bytes(make(path.read_bytes()))
    scratch.reseal()


def varint(number: int) -> bytes:
    """As Thrift's compact protocol writes it."""
    found = b""
    while number > 0x7F:
        found, number = found + bytes([number & 0x7F | 0x80]), number >> 7
    return found + bytes([number])


def footer(thrift: bytes) -> bytes:
    """A Parquet file of nothing but this footer."""
    return b"PAR1" + bytes(200) + thrift + struct.pack("<I", len(thrift)) + b"PAR1"


CONTENTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "another file": lambda _: b"PAR1" + bytes(1000) + b"PAR1",
    "a list of 2^40 in the footer": lambda _: footer(bytes([0x19, 0xF7]) + varint(1 << 40) + b"\0"),
    "a list of 2 x 10^7 in the footer": lambda _: footer(bytes([0x19, 0xF7]) + varint(20_000_000) + b"\0"),
    "a map of 2^40 in the footer": lambda _: footer(bytes([0x1B]) + varint(1 << 40) + b"\x33\0"),
    "a text of 2^62 in the footer": lambda _: footer(bytes([0x18]) + varint(1 << 62) + b"\0"),
    "structs in structs in the footer": lambda _: footer(b"\x1c" * 100_000),
    "lists in lists in the footer": lambda _: footer(b"\x19" * 100_000),
    "a number without end in the footer": lambda _: footer(b"\x15" + b"\xff" * 100_000),
    "a footer longer than the file": lambda whole: whole[:-8] + b"\xff\xff\xff\x7fPAR1",
    "a footer of nothing": lambda whole: whole[:-8] + bytes(4) + b"PAR1",
    "twice the same": lambda whole: whole + whole,
}


def _many_rows(rows: int, scratch: Scratch) -> None:
    """An index of a row that is repeated: small on disk."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = scratch.config / "index.parquet"
    table = pq.read_table(path)
    columns = [pa.repeat(table.column(name)[0], rows) for name in table.column_names]
    many = pa.table(columns, schema=table.schema)
    pq.write_table(
        many, path, compression="zstd", use_dictionary=True, write_statistics=False, row_group_size=max(rows, 1)
    )
    scratch.reseal()


def _further_columns(scratch: Scratch) -> None:
    """An index with two thousand columns that nobody asked for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = scratch.config / "index.parquet"
    table = pq.read_table(path)
    for number in range(2000):
        table = table.append_column(f"more-{number}", pa.nulls(table.num_rows, pa.int8()))
    pq.write_table(table, path)
    scratch.reseal()


def _words_in_rows(text: str, scratch: Scratch) -> None:
    """Ids and source paths of every row, in shard and index, with all that follows from them made right."""
    from forged import forge

    text = scratch.fill(text).replace("\ud800", "\ufffd")  # a Parquet file is UTF-8
    forge(
        scratch.config,
        lambda rows: [replace(row, id=f"{text}{number}", source_path=text) for number, row in enumerate(rows)],
    )


@cache
def _large_webp() -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (12_000, 12_000)).save(file, "WEBP", quality=1, method=0)
    return file.getvalue()


def _thumbnails(make: Callable[[], bytes], scratch: Scratch) -> None:
    from forged import forge

    forge(scratch.config, lambda rows: [replace(row, thumbnail=make()) for row in rows])


THUMBNAILS: dict[str, Callable[[], bytes]] = {
    "12,000 x 12,000 pixels": _large_webp,
    "no picture": lambda: b"pwned",
    "an SVG": lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
}


# Journals -------------------------------------------------------------------------------------------------------------


def _journal(folder: Callable[[Scratch], Path], name: str, scratch: Scratch) -> None:
    """A journal whose plan names a shard that lies elsewhere."""
    text = scratch.fill(name)
    journal = folder(scratch) / ".build"
    journal.mkdir(parents=True, exist_ok=True)
    victim = MINE
    shard = {"path": text, "rows": 9, "bytes": len(victim), "sha256": hashlib.sha256(victim).hexdigest()}
    plans = {"split": "train", "index": 0, "name": text, "start": 0, "stop": 9}
    entry = {"shard": shard, "statistics": {}, "skipped": [], "entropy_bits": 1.0}
    (journal / "plan.json").write_text(json.dumps({"appends_to": "another"}))
    (journal / "shards.json").write_text(json.dumps({"shards": [plans]}))
    (journal / "train-00000.json").write_text(json.dumps(entry))


def _journal_text(folder: Callable[[Scratch], Path], text: str, scratch: Scratch) -> None:
    journal = folder(scratch) / ".build"
    journal.mkdir(parents=True, exist_ok=True)
    for name in ("plan.json", "shards.json", "train-00000.json", "lock", "train-00000.lock"):
        (journal / name).write_text(text)


def _linked_journal(folder: Callable[[Scratch], Path], name: str, scratch: Scratch) -> None:
    """A journal that is the user's folder, which has the names that a journal has."""
    inside = scratch.private / "journal"
    inside.mkdir()
    for mine in ("plan.json", "shards.json", "mine.json", ".mine.partial", "lock"):
        (inside / mine).write_text("{}")
    folder(scratch).mkdir(parents=True, exist_ok=True)
    (folder(scratch) / name).symlink_to(inside)


def _linked_lock(folder: Callable[[Scratch], Path], name: str, scratch: Scratch) -> None:
    journal = folder(scratch) / ".build"
    journal.mkdir(parents=True, exist_ok=True)
    (journal / name).symlink_to(scratch.home / "victim.txt")


def _journal_attacks() -> Iterator[Attack]:
    places: dict[str, tuple[str, Callable[[Scratch], Path]]] = {
        "of the stranger": (DATASET, lambda scratch: scratch.config),
        "where it is written": (TARGET, lambda scratch: scratch.target / CONFIG),
    }
    for place, (face, folder) in places.items():
        for what in ESCAPES:
            yield Attack("journals", f"shards {place}", what, face, partial(_journal, folder, TEXTS[what]))
        for what, text in {"brackets": "[" * 100_000, "a list": "[]", "no JSON": "\x1b]0;pwned\x07"}.items():
            yield Attack("journals", f"all files {place}", what, face, partial(_journal_text, folder, text))
        for name in (".build", ".build.old"):
            yield Attack("journals", f"{name} {place}", "a link", face, partial(_linked_journal, folder, name))
        for name in ("lock", "plan.json", "shards.json", "train-00000.lock", "train-00000.json"):
            yield Attack("journals", f".build/{name} {place}", "a link", face, partial(_linked_lock, folder, name))


# Cards ----------------------------------------------------------------------------------------------------------------


def laughs(depth: int) -> str:
    """YAML aliases of aliases."""
    levels = [f"x{level}: &a{level} [{','.join([f'*a{level - 1}'] * 10)}]" for level in range(1, depth)]
    return "\n".join(["x0: &a0 [l,l,l,l,l,l,l,l,l,l]", *levels, f"tags: [*a{depth - 1}]"])


CARDS: dict[str, str] = {
    "aliases of aliases": f"---\n{laughs(7)}\n---\nhello\n",
    "40,000 blank lines": "---\na: |\n" + "\n" * 40_000 + "  x\nb: 1\n---\nhello\n",
    "8,000 marks": "---\na: 1\n---\n" + "<!-- latentstore:begin {} -->\n" * 8_000,
    "marks and spaces": "---\na: 1\n---\n<!-- latentstore:begin {" + " " * 60_000 + "\n" * 200,
    "an unclosed quote": '---\nconfigs:\n- config_name: "\n---\n',
    "an escape that is none": '---\nconfigs:\n- config_name: "\\x"\n---\n',
    "brackets": "---\na: " + "[" * 50_000 + "\n---\n",
    "braces": "---\n" + "{" * 50_000 + "\n---\n",
    "a tag": "---\na: !!python/object/apply:os.system ['touch pwned']\n---\n",
    "names that lead out": "---\nconfigs:\n- config_name: ../../private\n- config_name: /etc\n---\n",
    "names of configs": "---\nconfigs:\n" + "- config_name: x\n" * 50_000 + "---\n",
    "end marks": "---\na: 1\n---\n<!-- latentstore:end -->\n<!-- latentstore:end -->\n",
    "a begin mark": '---\na: 1\n---\n<!-- latentstore:begin {"configs": 1, "keys": [], "repo": 3} -->\n',
    "what was written, of brackets": "---\na: 1\n---\n<!-- latentstore:begin {"
    + "[" * 50_000
    + "} -->\n<!-- latentstore:end -->\n",
    "no UTF-8": "---\na: \udcff\udcfe\n---\n",
    "NUL": "---\na: \0\n---\n\0",
    "keys of other kinds": "---\n1: 2\n? [a, b]\n: c\n2026-01-01: x\nlicense: {a: b}\nconfigs: 7\ntags: 3\n---\n",
    "a date that is none": "---\na: 2026-99-99\n---\n",
    "3 MiB": "---\na: 1\n---\n" + "words " * 500_000,
}


def _card(folder: Callable[[Scratch], Path], text: str, scratch: Scratch) -> None:
    (folder(scratch) / "README.md").write_bytes(text.encode("utf-8", "surrogateescape"))


# Keys, listings, journals of publishing -------------------------------------------------------------------------------


def _key(name: str, scratch: Scratch) -> None:
    scratch.keys[f"{CONFIG}/{scratch.fill(name)}"] = b"pwned"


def _listed_elsewhere(part: str, name: str, scratch: Scratch) -> None:
    """The manifest lists a file elsewhere, and a bucket has a key of that name, with the sha256 that is stated."""
    text = scratch.fill(name)
    data, content = scratch.manifest(), b"pwned"
    entry = data["index"] if part == "index" else data["splits"]["train"]["shards"][0]
    entry |= {"path": text, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    scratch.keys[f"{CONFIG}/{text}"] = content
    scratch.seal(agreeing(data))


def _listed_file(name: str, scratch: Scratch) -> None:
    """The manifest lists the user's file, with its right size and sha256."""
    data = scratch.manifest()
    data["index"] |= {"path": scratch.fill(name)}
    path = scratch.config / data["index"]["path"]
    if path.is_file():
        content = path.read_bytes()
        data["index"] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    scratch.seal(data)


def _named_config(name: str, scratch: Scratch) -> None:
    """The config's folder, and the manifest, have this name."""
    text = scratch.fill(name)
    data = json.loads(json.dumps(scratch.manifest()).replace(json.dumps(CONFIG)[1:-1], json.dumps(text)[1:-1]))
    scratch.seal(data)
    for path in scratch.config.iterdir():
        scratch.keys[f"{text}/{path.name}"] = path.read_bytes()


def _publishing(text: str, scratch: Scratch) -> None:
    (scratch.config / ".publishing.json").write_text(scratch.fill(text))


PUBLISHING: dict[str, str] = {
    **{what: json.dumps({"writer": "x", "sha256": {TEXTS[what]: "0" * 64}}) for what in ESCAPES},
    "brackets": "[" * 100_000,
    "a list": "[]",
    "a number": '{"writer": 7, "sha256": {"a": 7}}',
    "words": json.dumps({"writer": TEXTS["escapes"], "sha256": {TEXTS["escapes"]: TEXTS["escapes"]}}),
}


def _second_config(scratch: Scratch) -> None:
    """Another folder whose manifest says that it is the first one."""
    shutil.copytree(scratch.config, scratch.repo / "second")


def _linked_config(scratch: Scratch) -> None:
    """The config's folder is a link to the user's own dataset."""
    shutil.rmtree(scratch.config)
    scratch.config.symlink_to(scratch.honest / "honest-pool8")


# What lies where a command writes -----------------------------------------------------------------------------------


def _own(name: str, content: bytes, scratch: Scratch) -> None:
    scratch.mine(scratch.target / name, content)


OWN: dict[str, bytes] = {
    "README.md": b"# My project\n\nNothing about latents.\n",
    f"{CONFIG}/notes.txt": b"my notes\n",
    f"{CONFIG}/train-00000-of-00002.parquet": b"my own table\n",
    f"{CONFIG}/{SHARD}": b"my own shard\n",
    f"{CONFIG}/index.parquet": b"my own index\n",
    f"{CONFIG}/preview.png": b"my own picture\n",
    f"{CONFIG}/skipped.jsonl": b"my own list\n",
    f"{CONFIG}/manifest.json": b'{"mine": true}\n',
    f"{CONFIG}/.mine.partial": b"half of mine\n",
    f"{CONFIG}/.build/mine.json": b"{}\n",
    "data/train-00000-of-00002.parquet": b"my own table\n",
    "data/index.parquet": b"my own index\n",
    "data/manifest.json": b'{"mine": true}\n',
    ".publishing.json": b"{}\n",
}
"""Files of the user's own, by their names in the folder that is written to."""
WRITTEN = ("manifest.json", "index.parquet", SHARD, "preview.png", ".publishing.json")


def _link_in_target(name: str, scratch: Scratch) -> None:
    path = scratch.target / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(scratch.home / "victim.txt")


def _config_is_link(scratch: Scratch) -> None:
    (scratch.target / CONFIG).symlink_to(scratch.private)


def _target_attacks() -> Iterator[Attack]:
    for name, content in OWN.items():
        yield Attack("the user's own files", name, "there before", TARGET, partial(_own, name, content))
    for name in WRITTEN:
        for linked in (f"{CONFIG}/{name}", f"{CONFIG}/.{name}.partial"):
            yield Attack("links where it writes", linked, "a link", TARGET, partial(_link_in_target, linked))
    for linked in ("README.md", ".README.md.partial"):
        yield Attack("links where it writes", linked, "a link", TARGET, partial(_link_in_target, linked))
    yield Attack("links where it writes", CONFIG, "a link to a private folder", TARGET, _config_is_link)
    for what, text in CARDS.items():
        yield Attack("cards", "README.md where it writes", what, TARGET, partial(_card, lambda s: s.target, text))


# Caches ---------------------------------------------------------------------------------------------------------------


def _sha256_of_shard(scratch: Scratch) -> str:
    found: str = scratch.manifest()["splits"]["train"]["shards"][0]["sha256"]
    return found


def _linked_cache_file(pattern: str, scratch: Scratch) -> None:
    scratch.cache.mkdir(parents=True)
    name = pattern.format(sha=_sha256_of_shard(scratch), pid=os.getpid())
    (scratch.cache / name).symlink_to(scratch.home / "victim.txt")


def _poisoned_cache(scratch: Scratch) -> None:
    scratch.cache.mkdir(parents=True)
    (scratch.cache / f"{_sha256_of_shard(scratch)}.rows").write_bytes(bytes(9 * 48))


def _cache_is_link(scratch: Scratch) -> None:
    (scratch.private / f"{'0' * 64}.rows").write_bytes(b"mine")
    (scratch.private / "mine.rows").write_bytes(b"mine")
    scratch.cache.parent.mkdir(parents=True)
    scratch.cache.symlink_to(scratch.private)


def _own_in_cache(scratch: Scratch) -> None:
    for name in ("mine.rows", ".mine.partial", ".mine.lock", "mine.txt"):
        scratch.mine(scratch.cache / name)


def _cache_attacks() -> Iterator[Attack]:
    for pattern in ("{sha}.rows", ".{sha}.lock", ".{sha}.rows.{pid}.partial"):
        yield Attack("caches", pattern, "a link", CACHE, partial(_linked_cache_file, pattern))
    yield Attack("caches", "{sha}.rows", "other numbers", CACHE, _poisoned_cache)
    yield Attack("caches", "the folder", "a link to a private one", CACHE, _cache_is_link)
    yield Attack("caches", "the folder", "files of the user's own", CACHE, _own_in_cache)


# Web servers ----------------------------------------------------------------------------------------------------------

ENDLESS = 300 << 20
"""Bytes of a body that nobody should read to its end: more than any file may have that is read whole."""


def _endless(status: int, part: str, scratch: Scratch) -> None:
    def answer(handler: Any, path: str) -> bool:
        if part not in path:
            return False
        handler.send_response(status)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        piece = b"pwned   " * (1 << 17)
        try:
            for _ in range(ENDLESS // len(piece)):
                handler.wfile.write(piece)
        except OSError:
            return True
        scratch.excess.append(f"took all {ENDLESS >> 20} MiB of a body with HTTP {status}")
        return True

    scratch.answer = answer


def _answers(status: int, headers: Mapping[str, str], body: bytes, part: str, scratch: Scratch) -> None:
    def answer(handler: Any, path: str) -> bool:
        if part not in path:
            return False
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, scratch.fill(value))
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        handler.wfile.write(body)
        return True

    scratch.answer = answer


def _raw_answer(content: bytes, scratch: Scratch) -> None:
    def answer(handler: Any, _: str) -> bool:
        handler.wfile.write(content)
        handler.close_connection = True
        return True

    scratch.answer = answer


LOCATIONS: dict[str, str] = {
    "a file": "file://@HOME@/private/letter.txt",
    "ftp": "ftp://127.0.0.1/x",
    "data": "data:text/plain,pwned",
    "an open bracket": "http://[",
    "a port that is none": "http://127.0.0.1:abc/",
    "a port too large": "http://127.0.0.1:99999999/",
    "no host": "http:///x",
    "nothing": "",
    "control characters": "/x\x01\x7fy z",
    "a circle": "@WEB@/photos-pool8/manifest.json",
    "many bytes": "/" + "a" * 40_000,
}
LENGTHS: dict[str, str] = {
    "no number": "abc",
    "below zero": "-1",
    "10^30": str(10**30),
    "5,000 digits": "9" * 5_000,
    "in another script": "\u00b2",
    "empty": "",
}
RANGES: dict[str, str] = {
    "no number": "bytes abc-def/ghi",
    "another script": "bytes \u00b2-3/4",
    "10^30 bytes": f"bytes 0-0/{10**30}",
    "5,000 digits": f"bytes 0-0/{'9' * 5_000}",
    "a star": "bytes */*",
}
RAW_ANSWERS: dict[str, bytes] = {
    "no HTTP": b"pwned\r\n" * 1000,
    "a status that is none": b"HTTP/1.1 abc pwned\r\n\r\n",
    "a header of 200 kB": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 200_000 + b"\r\n\r\n",
    "5,000 headers": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5_000 + b"\r\n",
    "chunks that are none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\npwned",
    "words in the reason": b"HTTP/1.1 418 \x1b]0;pwned\x07\x1b[31m\r\nContent-Length: 0\r\n\r\n",
}


def _web_attacks() -> Iterator[Attack]:
    for part in ("manifest.json", "index.parquet", SHARD, "README.md", ""):
        for status in (404, 200, 403, 500, 416):
            plant = partial(_endless, status, part)
            yield Attack("web servers", part or "everything", f"HTTP {status} without an end", WEB, plant)
    for part in ("manifest.json", SHARD):
        for what, place in LOCATIONS.items():
            plant = partial(_answers, 302, {"Location": place}, b"", part)
            yield Attack("web servers", part, f"Location: {what}", WEB, plant)
        for what, length in LENGTHS.items():
            plant = partial(_answers, 200, {"Content-Length": length}, b"pwned", part)
            yield Attack("web servers", part, f"Content-Length: {what}", WEB, plant)
        for what, span in RANGES.items():
            plant = partial(_answers, 206, {"Content-Range": span, "Content-Length": "1"}, b"x", part)
            yield Attack("web servers", part, f"Content-Range: {what}", WEB, plant)
        retry = partial(_answers, 503, {"Retry-After": "9" * 400, "Content-Length": "0"}, b"", part)
        yield Attack("web servers", part, "Retry-After of 400 digits", WEB, retry)
    for what, content in RAW_ANSWERS.items():
        yield Attack("web servers", "everything", what, WEB, partial(_raw_answer, content))


# Sources --------------------------------------------------------------------------------------------------------------


def _linked_picture(scratch: Scratch) -> None:
    picture = next((scratch.private / "pictures").rglob("*.png"))
    (scratch.home / "source" / "photos" / "forest" / "linked.png").symlink_to(picture)


def _linked_pictures(scratch: Scratch) -> None:
    (scratch.home / "source" / "photos" / "linked").symlink_to(scratch.private / "pictures")


def _picture_named(text: str, scratch: Scratch) -> None:
    name = text.replace("/", "_").replace("\0", "_")[:60].encode("utf-8", "surrogatepass")
    first = next((scratch.home / "source" / "photos").rglob("*.png"))
    place = os.fsencode(scratch.home / "source" / "photos" / "forest")
    with open(place + b"/" + name + b".png", "wb") as file:  # noqa: PTH123 (a name that is no text)
        file.write(first.read_bytes())


def _table_of(path: str, scratch: Scratch) -> None:
    """A table of pictures, the last of which says only where it lies."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures = sorted((scratch.home / "source" / "photos").rglob("*.png"))
    rows: list[dict[str, Any]] = [{"bytes": one.read_bytes(), "path": one.name} for one in pictures]
    private = next((scratch.private / "pictures").rglob("*.png"))
    rows.append({"bytes": None, "path": scratch.fill(path).replace("@PICTURE@", str(private))})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(rows, kind)})
    features = json.dumps({"info": {"features": {"image": {"_type": "Image"}}}})
    folder = scratch.home / "source" / "table"
    folder.mkdir()
    pq.write_table(table.replace_schema_metadata({"huggingface": features}), folder / "train.parquet")


PATHS_IN_TABLES = {
    "a private picture": "@PICTURE@",
    "a private picture's URL": "file://@PICTURE@",
    "a private file": "@HOME@/private/letter.txt",
    "a URL": "@ELSEWHERE@/metadata",
    "a Hub file": "hf://datasets/evil/x/y.png",
    "a file in an archive": "zip://x.png::@ELSEWHERE@/x.zip",
    "a system file": "/etc/hostname",
    "an endless device": "/dev/zero",
    "a parent": "../../private/pictures/forest/40.png",
}


def _source_attacks() -> Iterator[Attack]:
    yield Attack("sources", "a picture", "a link to a private one", SOURCE, _linked_picture)
    yield Attack("sources", "a class", "a link to a private folder", SOURCE, _linked_pictures)
    for what in ("escapes", "C1 controls", "right to left", "a second line", "HTML", "a mark's end", "rich markup"):
        yield Attack("sources", "a picture's name", what, SOURCE, partial(_picture_named, TEXTS[what]))
    for what, path in PATHS_IN_TABLES.items():
        yield Attack("sources", "a path in a table", what, TABLE, partial(_table_of, path))


# All of them ----------------------------------------------------------------------------------------------------------


def _of(
    group: str, where: str, values: Mapping[str, Any], plant: Callable[..., None], face: str = DATASET
) -> Iterator[Attack]:
    """One attack for each value of a table."""
    for what, value in values.items():
        yield Attack(group, where, what, face, partial(plant, value))


def _content_attacks() -> Iterator[Attack]:
    for name in (*(f"{CONFIG}/{name}" for name in CONFIG_FILES), "README.md"):
        yield from _of("files that are none", name, SHAPES, partial(_shape, name))
    for name in (SHARD, "index.parquet"):
        yield from _of("contents of files", name, CONTENTS, partial(_content, name))
    rows = {f"{rows:,} rows": rows for rows in (0, 8, 10, 3_000_000)}
    yield from _of("contents of files", "index.parquet", rows, _many_rows)
    yield Attack("contents of files", "index.parquet", "2,000 further columns", DATASET, _further_columns)
    yield from _of("contents of files", "thumbnails", THUMBNAILS, _thumbnails)
    yield from _of("words in rows", "id and source_path", TEXTS, _words_in_rows)


def _listing_attacks() -> Iterator[Attack]:
    names = {what: TEXTS[what] for what in (*ESCAPES, *ODD_NAMES)}
    yield from _of("listings", "a key", names, _key, KEYS)
    yield from _of("listings", "a config's name", names, _named_config, KEYS)
    for part in ("index", "shard"):
        where = f"a key that the manifest lists as {part}"
        yield from _of("listings", where, names, partial(_listed_elsewhere, part), KEYS)
    there = {f"{what}, which is there": TEXTS[what] for what in ESCAPES}
    yield from _of("listings", "the index", there, _listed_file)
    yield from _of("publishing", ".publishing.json", PUBLISHING, _publishing)
    yield Attack("configs", "a second folder", "says that it is the first", DATASET, _second_config)
    yield Attack("configs", "the folder", "a link to the user's dataset", DATASET, _linked_config)


def file_attacks() -> Iterator[Attack]:
    """Everything but the fields of the manifest."""
    yield from _of("what a manifest names", "source and vae", ACTS, _acts)
    yield from _of("the manifest's text", "manifest.json", MANIFEST_TEXTS, _raw_manifest)
    yield from _content_attacks()
    yield from _journal_attacks()
    yield from _of("cards", "README.md of the stranger", CARDS, partial(_card, lambda scratch: scratch.repo))
    yield from _listing_attacks()
    yield from _target_attacks()
    yield from _cache_attacks()
    yield from _web_attacks()
    yield from _source_attacks()
