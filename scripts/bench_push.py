"""What a push asks of the Hub, and how much it sends: a first one, one after a shard changed, one of what is there.

    python scripts/bench_push.py --shards 12

Against the Hub of the tests, on this machine, over plain LFS and over Xet; each push is `latentstore push` in a process
of its own, as users type it, and the counts are those of the server's log. "Sent" is what the client uploaded: bodies
of requests, and for Xet what the storage behind it grew by (Xet sends only pieces that it does not have). Prints a
table in Markdown.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hub_server import HubServer
from publishing_words import CONFIG, change_one_shard
from scenes import build_scenes, scenes

REPO = "user/latents"
ROWS_A_SHARD = 16


@dataclass(frozen=True)
class Counted:
    """One push, as the server saw it."""

    mode: str
    push: str
    requests: int
    uploads: int
    """Requests that carry the content of files, over LFS; Xet sends it past the server."""
    commits: int
    sent: int
    """Bytes."""
    fetched: int
    """Bytes: listings, the card and manifests that are compared."""


def main() -> None:
    """Push, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=12)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build_scenes(folder / "built", source=scenes(arguments.shards * ROWS_A_SHARD, 64), rows_per_shard=ROWS_A_SHARD)
        shards = [path.stat().st_size for path in sorted((folder / "built" / CONFIG).glob("train-*.parquet"))]
        before = {path: path.read_bytes() for path in (folder / "built").rglob("*") if path.is_file()}
        counted: list[Counted] = []
        for xet in (False, True):
            for path, content in before.items():
                path.write_bytes(content)
            counted += pushes(folder, xet=xet, shards=arguments.shards)
    total = sum(len(content) for content in before.values())
    print(f"{len(before)} files of {total:,} bytes together, {len(shards)} of them shards of {shards[0]:,} bytes.\n")
    print("| push | over | requests | uploads | commits | bytes sent | bytes fetched |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for one in counted:
        uploads = f"{one.uploads:,}" if one.mode == "LFS" else ""
        print(
            f"| {one.push} | {one.mode} | {one.requests:,} | {uploads} | {one.commits:,} | {one.sent:,} | "
            f"{one.fetched:,} |"
        )


def pushes(folder: Path, *, xet: bool, shards: int) -> Iterator[Counted]:
    """The three pushes of a folder, one after another."""
    mode = "Xet" if xet else "LFS"
    with HubServer(folder / mode, xet=xet) as hub:
        for push in ("first", f"1 of {shards} shards changed", "unchanged"):
            if "changed" in push and push != "unchanged":
                change_one_shard(folder / "built")
            stored = hub.xet_files.stored_bytes()
            hub.log.forget()
            run(hub, folder)
            log = hub.log
            yield Counted(
                mode=mode,
                push=push,
                requests=len(log.entries),
                uploads=log.counts()["lfs-put"],
                commits=log.counts()["commit"],
                sent=log.received() + hub.xet_files.stored_bytes() - stored,
                fetched=log.sent(),
            )


def run(hub: HubServer, folder: Path) -> None:
    """`latentstore push` in a process of its own."""
    code = "from latentstore_cli.main import main; main()"
    arguments = ["push", str(folder / "built"), REPO, "--license", "cc0-1.0", "--yes"]
    environment = hub.environment(folder / "home")
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(done.stderr)


if __name__ == "__main__":
    main()
