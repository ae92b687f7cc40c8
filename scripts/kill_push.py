"""Kill a push with SIGKILL at random moments of its life, type it again, and see what that leaves behind.

    python scripts/kill_push.py --kills 50 --mode lfs --seed 0

Against the Hub of the tests, on this machine. Each round pushes a config of twelve shards onto a repository that has
another version of it. The push is killed before or after a request that is drawn from all those of an uninterrupted
one, or (one time in four) at a moment drawn from the time that takes, and is typed again until it ends well. A reader
looks at the main branch all the while: every manifest there must have all of its data, by sha256. At the end the
repository must be what an uninterrupted push makes of it, to the byte, and over LFS nothing may have been sent twice
that had arrived. Prints one line of JSON; exit code 1 where anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from hub_server import Fault, HubServer
from publishing_words import missing_data
from scenes import build_scenes, scenes

REPO = "user/latents"
BY_TIME = 0.25
"""Share of the kills that look at the clock, not at a request."""
SHORTEST = 0.05
"""Share of a push's life before which nothing has been asked of the Hub yet."""


@dataclass
class Reader:
    """Looks at the main branch, again and again."""

    hub: HubServer
    looks: int = 0
    wrong: list[str] = field(default_factory=list)
    _seen: str = ""
    _ended: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Reader:  # noqa: PYI034 (typing.Self is younger than Python 3.10)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            if ("datasets", REPO) in self.hub.repositories:
                self._look()
            time.sleep(0.005)

    def _look(self) -> None:
        repository = self.hub.repository(REPO)
        head = repository.head.oid
        self.looks += 1
        if head != self._seen:
            self._seen = head
            self.wrong += [f"{head[:12]}: {path}" for path in missing_data(self.hub.files(REPO, head))]


def main() -> int:
    """Kill, push again, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--mode", choices=["lfs", "xet"], default="lfs")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = trial(Path(name), kills=arguments.kills, xet=arguments.mode == "xet", seed=arguments.seed)
    print(json.dumps(found))
    return 1 if found["wrong"] or found["different"] or found["sent_twice"] else 0


def trial(folder: Path, *, kills: int, xet: bool, seed: int) -> dict[str, object]:
    """What was found."""
    rng = random.Random(seed)  # noqa: S311 (no secret)
    versions = [folder / "first", folder / "second"]
    for number, version in enumerate(versions):
        build_scenes(version, source=scenes(48, 24 + 8 * number), rows_per_shard=4, config="scenes")
    with HubServer(folder / "plain", xet=xet) as hub:
        life = 0.0
        for version in versions:
            started = time.monotonic()
            hub.log.forget()
            push(hub, version, folder / "home").wait()
            life = max(life, time.monotonic() - started)
        wanted, requests = hub.files(REPO), len(hub.log.entries)
    killed = rounds = looks = 0
    wrong: list[str] = []
    different: list[str] = []
    sent_twice = 0
    while killed < kills:
        rounds += 1
        with HubServer(folder / f"hub-{rounds}", xet=xet) as hub, Reader(hub) as reader:
            push(hub, versions[0], folder / "home").wait()
            for _ in range(4):
                killed += killed_push(hub, versions[1], folder / "home", rng, requests, life)
            if push(hub, versions[1], folder / "home").wait():
                wrong.append(f"round {rounds}: the last push failed")
            found = hub.files(REPO)
            different += [path for path in sorted(set(found) | set(wanted)) if found.get(path) != wanted.get(path)]
            stored = sum(len(found[path]) for path in found if path.endswith((".parquet", ".png")))
            if not xet:
                whole = [entry.target for entry in hub.log.of("lfs-put") if entry.status == 200]
                sent_twice += len(whole) - len(set(whole))
        looks += reader.looks
        wrong += reader.wrong
    return {
        "mode": "xet" if xet else "lfs",
        "kills": killed,
        "rounds": rounds,
        "requests_of_a_push": requests,
        "seconds_of_a_push": round(life, 2),
        "bytes_of_the_repository": stored,
        "looks_of_the_reader": looks,
        "wrong": wrong,
        "different": different,
        "sent_twice": sent_twice,
    }


def killed_push(hub: HubServer, folder: Path, home: Path, rng: random.Random, requests: int, life: float) -> bool:
    """A push that is killed at a random moment; False where it had ended before."""
    process = push(hub, folder, home)
    timeout = None
    if rng.random() < BY_TIME:
        timeout = rng.uniform(SHORTEST, 1) * life
    else:
        moment = rng.choice(["before", "after"])
        hub.order(Fault(nth=rng.randint(1, requests), **{moment: lambda _: process.kill()}))
    try:
        return process.wait(timeout) == -signal.SIGKILL
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True


def push(hub: HubServer, folder: Path, home: Path) -> subprocess.Popen[bytes]:
    """A push in a process of its own."""
    code = "from latentstore_cli.main import main; main()"
    arguments = ["push", str(folder), REPO, "--license", "cc0-1.0", "--yes"]
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=hub.environment(home),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


if __name__ == "__main__":
    sys.exit(main())
