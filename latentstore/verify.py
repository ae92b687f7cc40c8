"""verify(): whether a dataset is what its manifest says, and no more was lost than it says.

The checks are rows of ``CHECKS``. Those about shards run together, shard by shard, so that each file is read while it
is in memory. A check whose groundwork failed for a shard leaves that shard out and looks at the others; one whose
groundwork failed altogether is not run, and says so.

What no check can notice: a manifest is not signed. Whoever changes a dataset, its index, its manifest *and* its build
plan consistently, in fields that neither the stored numbers, nor the VAE's weights, nor the source's pictures, nor the
tables of this version speak of (the citation or licence of a source of one's own, versions, the loss that was measured
against unrounded latents), is not found out. Against that, compare the sha256 of ``manifest.json`` with one from a
place you trust: it covers every shard.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.checks.interface import (
    DEPTHS,
    FAILED,
    NORMAL,
    NOT_RUN,
    PASSED,
    CheckResult,
    CheckRow,
    Finding,
    Inspection,
    Request,
    ShardVisit,
    some,
)
from latentstore.checks.table import CHECKS
from latentstore.errors import FetchError, LatentStoreError, NotSealedError, RequestError, StoreError
from latentstore.freed_memory import kept
from latentstore.json_records import plain
from latentstore.locations import LocalFolder, location_of
from latentstore.manifest import FILE_NAME
from latentstore.named_table import unknown_name
from latentstore.opening import open_in_place
from latentstore.remeasure import Unavailable

if TYPE_CHECKING:
    from latentstore.sources.interface import SourceRow
    from latentstore.vaes.interface import VaeRow

SHARDS = "shards"
"""What is reported as running while the checks about shards run together."""
Progress = Callable[[str, int, int], None]
"""Takes what runs, how much of it is done, and how much there is (bytes of shards, rows; 0 where that is unknown)."""


@dataclass(frozen=True)
class VerifyReport:
    """What all checks found."""

    location: str
    config: str
    depth: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """True where no check failed; warnings are no failure."""
        return all(result.status != FAILED for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"ok": self.ok, **plain(self)}


@kept()
def verify(
    location: str | Path,
    config: str | None = None,
    *,
    depth: str = NORMAL,
    sample: int = 16,
    seed: int = 0,
    source: SourceRow | None = None,
    vae: VaeRow | None = None,
    metric_weights: Path | None = None,
    device: str = "cpu",
    trust: bool = False,
    checks: Sequence[CheckRow] | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Run the checks on a sealed dataset, wherever ``open_store`` finds it.

    ``depth`` is ``quick`` (the manifest, which files there are and how large, the index: no shard is opened),
    ``normal`` (every shard is read once, and a sample of rows measured again) or ``full`` (every row is measured again
    and every source picture hashed). ``checks`` names some of them instead; what they need is run first.

    Of a dataset that lies elsewhere, ``quick`` reads manifest and index, and takes sizes (on the Hub sha256 too) from
    the listing; the other depths fetch every shard once, one at a time, into a temporary file, and of a sample what
    they need of it again. A Hub repository is looked at as it is there, not as a local cache has it.

    ``sample`` rows, drawn with ``seed``, are decoded on ``device`` and measured again against their source pictures.
    Pictures are those of ``source`` (all of which are hashed then), and the VAE is that of the row ``vae``. Where they
    are not given, what the manifest names is opened if it is a row of the tables; another folder, address or repository
    only with ``trust``, since whoever made the dataset chose it: without, those checks are not run and say so.
    ``metric_weights`` is the folder of the networks that some metrics need (those without are left out and named).
    ``progress`` is called before each check and while it runs.

    Raises StoreError for a location without any dataset, SourceError where ``source`` cannot be opened, RequestError
    for a depth that does not exist.
    """
    if depth not in DEPTHS:
        raise unknown_name("depth", depth, DEPTHS)
    if sample < 0:
        raise RequestError(f"Expected a sample of 0 rows or more, found {sample}.")
    # What was asked for by hand and cannot be had is a mistake, not a check that was not run.
    opened = source.open() if source is not None else None
    rows = list(CHECKS.values()) if checks is None else _with_groundwork(checks)
    try:
        store = open_in_place(location, config)
    except StoreError as error:
        if not _holds_manifest(location, config, error):
            raise
        return VerifyReport(str(location), config or "", depth, _only_manifest_failed(rows, error))
    inspection = Inspection(store, Request(depth, sample, seed, source, vae, metric_weights, device, trust), opened)
    runs = {row.name: _Run(row) for row in rows}
    for run in runs.values() if checks is None else ():
        if DEPTHS.index(run.row.depth) > DEPTHS.index(depth):
            run.reason = f"not part of depth {depth}"
    tell = progress or _silent
    for of_shard, group in groupby(runs.values(), key=lambda run: run.row.of_shard is not None):
        if of_shard:
            _over_shards(list(group), runs, inspection, tell)
            continue
        for run in group:
            _as_a_whole(run, runs, inspection, tell)
    return VerifyReport(str(location), store.manifest.config, depth, tuple(run.result for run in runs.values()))


def _with_groundwork(checks: Sequence[CheckRow]) -> list[CheckRow]:
    """These checks and all that they need, in the order of the table; a user's own come last."""
    wanted: dict[str, CheckRow] = {}
    pending = list(checks)
    while pending:
        row = pending.pop()
        if row.name not in wanted:
            wanted[row.name] = row
            pending += [CHECKS[name] for name in row.needs]
    table = [name for name in CHECKS if name in wanted]
    return [wanted[name] for name in (*table, *(row.name for row in checks if row.name not in CHECKS))]


@dataclass
class _Run:
    """A check while it runs."""

    row: CheckRow
    findings: list[Finding] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    seconds: float = 0.0
    note: str = ""
    reason: str = ""
    """Why it is not run; empty where it is."""
    because: list[str] = field(default_factory=list)
    """Checks on whose account shards were left out."""

    @property
    def failed(self) -> list[Finding]:
        """What is wrong."""
        return [finding for finding in self.findings if not finding.warning]

    @property
    def status(self) -> str:
        """What was found decides; where nothing was, whether anything was looked at."""
        return FAILED if self.failed else NOT_RUN if self.reason else PASSED

    @property
    def by_shard(self) -> bool:
        """Whether what is wrong with one shard leaves the others as they are."""
        return self.row.by_shard or self.row.of_shard is not None

    def unsound(self, shards: frozenset[str]) -> frozenset[str]:
        """The shards that those who need this check must leave out."""
        if self.by_shard and not (self.reason and not self.findings):
            return frozenset({finding.file for finding in self.failed} | self.left_out) & shards
        return frozenset() if self.status == PASSED else shards

    def look(self, findings: Iterable[Finding], file: str) -> None:
        """Take in what a function of the check yields; an error on purpose is a finding in ``file``."""
        started = time.perf_counter()
        try:
            self.findings.extend(findings)
        except Unavailable as reason:
            self.reason = str(reason)
        except LatentStoreError as error:
            self.findings.append(Finding(file, str(error)))
        except OSError as error:
            self.findings.append(Finding(file, f"cannot be read ({error.strerror or error})"))
        self.seconds += time.perf_counter() - started

    @property
    def result(self) -> CheckResult:
        """What the report says of it."""
        warnings = tuple(finding for finding in self.findings if finding.warning)
        left_out = tuple(sorted(self.left_out)) if not self.reason else ()
        without = f"; left out {some(left_out)}, see {', '.join(self.because)}" if left_out else ""
        note = f"{self.reason or self.note}{without}".removeprefix("; ")
        return CheckResult(self.row.name, self.status, self.seconds, tuple(self.failed), warnings, left_out, note)


def _as_a_whole(run: _Run, runs: Mapping[str, _Run], inspection: Inspection, tell: Progress) -> None:
    """Run a check that looks at the dataset as a whole."""
    _require(run, runs)
    everywhere = frozenset(info.path for _, info in inspection.shards())
    for name in run.row.needs:
        run.left_out |= runs[name].unsound(everywhere)
    _conclude(run, runs, inspection, everywhere, tell)


def _over_shards(group: Sequence[_Run], runs: Mapping[str, _Run], inspection: Inspection, tell: Progress) -> None:
    """Run the checks about shards, all of them on one shard before the next."""
    for run in group:
        _require(run, runs)
    shards = list(inspection.shards())
    everywhere = frozenset(info.path for _, info in shards)
    total, done = sum(info.bytes for _, info in shards), 0
    for split, info in shards if any(not run.reason for run in group) else ():
        tell(SHARDS, done, total)
        with closing(ShardVisit(inspection.store, split, info)) as visit:
            for run in group:
                _visit(run, runs, inspection, visit)
        done += info.bytes
    for run in group:
        _conclude(run, runs, inspection, everywhere, tell)


def _require(run: _Run, runs: Mapping[str, _Run]) -> None:
    """Note why it cannot be run, where a check that it needs was not run, or has failed for the whole dataset."""
    needed = [runs[name] for name in run.row.needs]
    unmet = [other.row.name for other in needed if other.reason or (other.failed and not other.by_shard)]
    if unmet and not run.reason:
        run.reason = f"needs {', '.join(unmet)}"


def _visit(run: _Run, runs: Mapping[str, _Run], inspection: Inspection, visit: ShardVisit) -> None:
    """Look at one shard, unless a check that is needed was not content with it."""
    if run.reason or run.row.of_shard is None:
        return
    here = frozenset({visit.info.path})
    if any(runs[name].by_shard and runs[name].unsound(here) for name in run.row.needs):
        run.left_out.add(visit.info.path)
    else:
        run.look(run.row.of_shard(inspection, visit), visit.info.path)


def _conclude(
    run: _Run, runs: Mapping[str, _Run], inspection: Inspection, everywhere: frozenset[str], tell: Progress
) -> None:
    """Look at the dataset as a whole, without the shards that were left out."""
    run.because = [name for name in run.row.needs if run.left_out & runs[name].unsound(everywhere)]
    if not run.reason and everywhere and run.left_out == everywhere:
        run.reason = f"needs {', '.join(run.because)}"
    if run.reason:
        return
    name = run.row.name
    inspection.note, inspection.left_out = "", frozenset(run.left_out)
    inspection.tell = lambda done, total: tell(name, done, total)
    inspection.tell(0, 0)
    run.look(run.row.run(inspection), FILE_NAME)
    run.note = inspection.note


def _silent(_: str, __: int, ___: int) -> None:
    """Of a caller who does not want to know."""


def _holds_manifest(location: str | Path, config: str | None, error: StoreError) -> bool:
    """Whether there is a dataset, of which this is what is wrong."""
    where = location_of(location)
    if not isinstance(where, LocalFolder):
        return not isinstance(error, (NotSealedError, FetchError))
    root = where.path
    places = [root, root / config] if config else [root, *(path.parent for path in root.glob(f"*/{FILE_NAME}"))]
    return any((place / FILE_NAME).is_file() for place in places)


def _only_manifest_failed(rows: Sequence[CheckRow], error: StoreError) -> tuple[CheckResult, ...]:
    def results() -> Iterator[CheckResult]:
        for row in rows:
            if row.name == "manifest":
                yield CheckResult(row.name, FAILED, 0.0, (Finding(FILE_NAME, str(error)),))
            else:
                yield CheckResult(row.name, NOT_RUN, 0.0, note="needs manifest")

    return tuple(results())
