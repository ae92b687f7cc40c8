"""verify(): whether a dataset is what its manifest says, and no more was lost than it says.

``CHECKS`` is a table: a row is an id, a sentence, and a function that yields what it found wrong. A check whose
groundwork failed is not run, and says so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.containers.table import CONTAINERS
from latentstore.errors import LatentStoreError, StoreError
from latentstore.hashing import sha256_of
from latentstore.json_records import plain
from latentstore.metrics.table import METRICS
from latentstore.named_table import NamedTable
from latentstore.remeasure import Unavailable, remeasured, scorers_at_hand
from latentstore.seal import INDEX, channel_numbers, collect_index, size_ledger, summaries
from latentstore.statistics import ChannelStatistics
from latentstore.store import LatentStore, open_store

if TYPE_CHECKING:
    from latentstore.sources.interface import SourceRow
    from latentstore.vaes.interface import VaeRow

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
STATISTICS_TOLERANCE = 1e-9
"""Relative: statistics are recomputed in float64 from the same numbers, merged in another order."""
QUALITY_TOLERANCE = {"psnr": 0.05, "ssim": 1e-3, "mae": 1e-3, "lpips": 1e-3, "lpips_vgg": 1e-3, "ssim_vaes4rs": 1e-3}
"""How far a re-measured score may be from the recorded one: kernels of other devices and batch sizes round differently,
which moves single decoded values by one step of 255."""
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong."""

    file: str
    """Relative to the config's folder; empty where it concerns no single file."""
    message: str


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    check: str
    status: str
    """``passed``, ``failed`` or ``not run``."""
    seconds: float
    findings: tuple[Finding, ...] = ()
    note: str = ""
    """What was looked at, or why the check was not run."""


@dataclass(frozen=True)
class VerifyReport:
    """What all checks found."""

    location: str
    config: str
    results: tuple[CheckResult, ...]

    @property
    def ok(self) -> bool:
        """True where no check failed."""
        return all(result.status != FAILED for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"ok": self.ok, **plain(self)}


@dataclass
class Inspection:
    """What the checks look at; what one reads, the next ones reuse."""

    store: LatentStore
    sample: int
    seed: int
    source: SourceRow | None = None
    vae: VaeRow | None = None
    metric_weights: Path | None = None
    index: dict[str, list[Any]] = field(default_factory=dict)
    note: str = ""

    def shards(self) -> Iterator[tuple[str, Any]]:
        """(split, shard entry) of every shard."""
        for split, info in self.store.manifest.splits.items():
            for shard in info.shards:
                yield split, shard


@dataclass(frozen=True)
class CheckRow:
    """One check."""

    name: str
    summary: str
    run: Callable[[Inspection], Iterator[Finding]]
    needs: tuple[str, ...] = ()
    """Checks that must have passed before this one means anything."""


def verify(
    location: str | Path,
    config: str | None = None,
    *,
    sample: int = 16,
    seed: int = 0,
    source: SourceRow | None = None,
    vae: VaeRow | None = None,
    metric_weights: Path | None = None,
    checks: Sequence[CheckRow] | None = None,
    progress: Callable[[str], None] | None = None,
) -> VerifyReport:
    """Run the checks on a sealed dataset.

    ``sample`` rows, drawn with ``seed``, are decoded and measured again against their source pictures, which are found
    as the manifest says or in ``source``; ``vae`` replaces the recorded VAE's row where it is a user's own;
    ``metric_weights`` is the folder of the networks that some metrics need (those without are left out and named).
    ``progress`` is told the name of each check before it runs. A location without any dataset raises StoreError.
    """
    rows = list(CHECKS.values()) if checks is None else _with_groundwork(checks)
    try:
        store = open_store(location, config)
    except StoreError as error:
        if not _holds_manifest(Path(location).expanduser(), config):
            raise
        return VerifyReport(str(location), config or "", _only_manifest_failed(rows, error))
    inspection = Inspection(store, sample, seed, source, vae, metric_weights)
    results: dict[str, CheckResult] = {}
    for row in rows:
        if progress is not None:
            progress(row.name)
        results[row.name] = _result(row, inspection, results)
    return VerifyReport(str(location), store.manifest.config, tuple(results.values()))


def _with_groundwork(checks: Sequence[CheckRow]) -> list[CheckRow]:
    """These checks and all that they need, groundwork first."""
    wanted: dict[str, CheckRow] = {}
    for check in checks:
        for needed in _with_groundwork([CHECKS[name] for name in check.needs]):
            wanted.setdefault(needed.name, needed)
        wanted.setdefault(check.name, check)
    return list(wanted.values())


def _result(row: CheckRow, inspection: Inspection, earlier: dict[str, CheckResult]) -> CheckResult:
    unmet = [name for name in row.needs if name in earlier and earlier[name].status != PASSED]
    if unmet:
        return CheckResult(row.name, NOT_RUN, 0.0, note=f"needs {', '.join(unmet)}")
    started = time.perf_counter()
    inspection.note = ""
    try:
        findings = tuple(row.run(inspection))
    except Unavailable as reason:
        return CheckResult(row.name, NOT_RUN, time.perf_counter() - started, note=str(reason))
    except LatentStoreError as error:
        findings = (Finding("", str(error)),)
    status = FAILED if findings else PASSED
    return CheckResult(row.name, status, time.perf_counter() - started, findings, inspection.note)


def _holds_manifest(root: Path, config: str | None) -> bool:
    places = [root, root / config] if config else [root, *(path.parent for path in root.glob("*/manifest.json"))]
    return any((place / "manifest.json").is_file() for place in places)


def _only_manifest_failed(rows: Sequence[CheckRow], error: StoreError) -> tuple[CheckResult, ...]:
    first = CheckResult("manifest", FAILED, 0.0, (Finding("manifest.json", str(error)),))
    rest = (CheckResult(row.name, NOT_RUN, 0.0, note="needs manifest") for row in rows if row.name != "manifest")
    return (first, *rest)


def _manifest(inspection: Inspection) -> Iterator[Finding]:
    # Opening the store has parsed and validated it; what is left is that it tells the truth about itself.
    manifest = inspection.store.manifest
    if inspection.store.folder.name != manifest.config:
        yield Finding(
            "manifest.json", f"the folder is called {inspection.store.folder.name}, the config {manifest.config}"
        )
    inspection.note = f"format {manifest.format_version}"


def _shards_listed(inspection: Inspection) -> Iterator[Finding]:
    folder, manifest = inspection.store.folder, inspection.store.manifest
    listed = {shard.path for _, shard in inspection.shards()}
    suffix = CONTAINERS[manifest.storage.container].suffix
    found = {path.name for path in folder.glob(f"*.{suffix}") if path.name != INDEX}
    for name in sorted(listed - found):
        yield Finding(name, "listed in the manifest, but missing")
    for name in sorted(found - listed):
        yield Finding(name, "not listed in the manifest")
    inspection.note = f"{len(listed)} shard{'s' if len(listed) != 1 else ''}"


def _shard_bytes(inspection: Inspection) -> Iterator[Finding]:
    total = 0
    for _, shard in inspection.shards():
        path = inspection.store.folder / shard.path
        size = path.stat().st_size
        total += size
        if size != shard.bytes:
            yield Finding(shard.path, f"has {size} bytes, the manifest says {shard.bytes}")
        elif sha256_of(path) != shard.sha256:
            yield Finding(shard.path, "its sha256 is not the one in the manifest: the bytes were changed")
    inspection.note = f"{total:,} bytes hashed"


def _shard_rows(inspection: Inspection) -> Iterator[Finding]:
    for _, shard in inspection.shards():
        try:
            inspection.store.shard(shard)
        except StoreError as error:
            yield Finding(shard.path, str(error))
    inspection.note = f"{inspection.store.manifest.rows:,} rows"


def _index(inspection: Inspection) -> Iterator[Finding]:
    store, manifest = inspection.store, inspection.store.manifest
    inspection.index = collect_index(store.folder, store.container, store.schema, manifest.splits)
    try:
        recorded = store.index()
    except StoreError as error:
        yield Finding(INDEX, str(error))
        return
    for name, values in inspection.index.items():
        if name not in recorded:
            yield Finding(INDEX, f"has no column {name!r}")
        elif not _same(recorded[name], values):
            row = next((i for i, pair in enumerate(zip(recorded[name], values, strict=False)) if not _same(*pair)), -1)
            yield Finding(INDEX, f"column {name!r} differs from the shards at row {row}")
    inspection.note = f"{len(inspection.index['id']):,} rows"


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) or repr(left) == repr(right)  # NaN equals NaN, nested ones too


def _ids(inspection: Inspection) -> Iterator[Finding]:
    counts = Counter(inspection.index["id"])
    for name, count in counts.items():
        if count > 1:
            shards = sorted(
                {s for s, i in zip(inspection.index["shard"], inspection.index["id"], strict=True) if i == name}
            )
            yield Finding(shards[0], f"id {name!r} occurs {count} times ({', '.join(shards)})")
    inspection.note = f"{len(counts):,} ids"


def _labels(inspection: Inspection) -> Iterator[Finding]:
    classes = inspection.store.manifest.source.classes
    if classes is None:
        inspection.note = "no classes"
        return
    for row, label in enumerate(inspection.index["label"]):
        if label is not None and not 0 <= label < len(classes):
            shard = inspection.index["shard"][row]
            yield Finding(shard, f"row {inspection.index['row'][row]} has label {label} of {len(classes)} classes")
    inspection.note = f"{len(classes)} classes"


def _latents(inspection: Inspection) -> Iterator[Finding]:
    store, manifest = inspection.store, inspection.store.manifest
    storage = store.storage()
    for split, info in manifest.splits.items():
        found = ChannelStatistics.empty(manifest.vae.channels)
        for shard in info.shards:
            reader = store.shard(shard)
            for start in range(0, shard.rows, ROWS_AT_ONCE):
                rows = np.arange(start, min(shard.rows, start + ROWS_AT_ONCE))
                raw = storage.decode(reader.latents(rows))
                bad = np.flatnonzero(~np.isfinite(raw).reshape(len(raw), -1).all(axis=1))
                for row in bad:
                    yield Finding(shard.path, f"row {start + row} holds a number that is not finite")
                if len(bad) == 0:
                    found = found.merge(ChannelStatistics.of(raw))
        yield from _statistics_differ(split, channel_numbers(found), manifest.statistics[split])
    inspection.note = f"{manifest.rows:,} latents read"


def _statistics_differ(split: str, found: Any, recorded: Any) -> Iterator[Finding]:
    for name in ("count", "mean", "std", "minimum", "maximum"):
        have, want = np.asarray(getattr(found, name)), np.asarray(getattr(recorded, name))
        scale = np.maximum(np.abs(np.asarray(recorded.std)), 1e-12) if name != "count" else 1.0
        if not np.all(np.abs(have - want) <= STATISTICS_TOLERANCE * scale + STATISTICS_TOLERANCE * np.abs(want)):
            yield Finding("manifest.json", f"statistics.{split}.{name} is not that of the stored latents")


def _summaries(inspection: Inspection) -> Iterator[Finding]:
    manifest = inspection.store.manifest
    known = [METRICS[name] for name in manifest.metrics if name in METRICS]
    found = summaries(known, inspection.index, manifest.source.classes)
    for name, summary in found.items():
        recorded = manifest.quality[name]
        for part in ("n", "undefined", "identical", "mean", "median", "p5", "p95", "pooled", "per_class", "worst"):
            if plain(getattr(summary, part)) != plain(getattr(recorded, part)):
                message = f"quality.{name}.{part} is not that of the rows' own scores"
                yield Finding("manifest.json", message)
    ledger = size_ledger(
        inspection.store.schema, inspection.index, manifest.size.stored_bytes, manifest.size.entropy_bytes
    )
    if ledger != manifest.size:
        yield Finding("manifest.json", "size does not agree with the rows and the shards")
    inspection.note = f"{len(found)} metrics"


def _quality(inspection: Inspection) -> Iterator[Finding]:
    scorers, lacking = scorers_at_hand(inspection.store.manifest.metrics, inspection.metric_weights)
    measured = remeasured(
        inspection.store,
        inspection.index,
        scorers=scorers,
        sample=inspection.sample,
        seed=inspection.seed,
        source=inspection.source,
        vae=inspection.vae,
    )
    count = 0
    for row in measured:
        count += 1
        if row.changed:
            yield Finding(row.shard, f"{row.id!r}: {row.changed}")
            continue
        for name, (recorded, found) in row.scores.items():
            if not _close(recorded, found, QUALITY_TOLERANCE.get(name, 0.0)):
                yield Finding(row.shard, f"{row.id!r}: {name} is recorded as {recorded}, measured again it is {found}")
    left_out = f"; without {', '.join(lacking)}, whose weights are not at hand" if lacking else ""
    inspection.note = f"{count} rows decoded and measured again{left_out}"


def _close(recorded: float | None, found: float, tolerance: float) -> bool:
    if recorded is None:
        return bool(np.isnan(found))
    return recorded == found or abs(recorded - found) <= tolerance


CHECKS = NamedTable(
    "check",
    [
        CheckRow("manifest", "the manifest is valid and agrees with itself", _manifest),
        CheckRow("shards-listed", "every listed shard is there, and no other", _shards_listed, ("manifest",)),
        CheckRow("shard-bytes", "every shard has the recorded size and sha256", _shard_bytes, ("shards-listed",)),
        CheckRow(
            "shard-rows",
            "every shard can be opened and has the recorded columns and rows",
            _shard_rows,
            ("shards-listed",),
        ),
        CheckRow("index", "index.parquet says what the shards say", _index, ("shard-rows",)),
        CheckRow("ids", "no id occurs twice", _ids, ("index",)),
        CheckRow("labels", "every label is in the class list", _labels, ("index",)),
        CheckRow("latents", "latents are finite and have the recorded statistics", _latents, ("shard-rows",)),
        CheckRow(
            "summaries", "quality and sizes in the manifest follow from the rows", _summaries, ("index", "labels")
        ),
        CheckRow(
            "quality", "a sample, decoded and measured again, has the recorded scores", _quality, ("index", "latents")
        ),
    ],
)
