"""What a check is: a row with an id, a sentence and functions that yield findings; and what all of them look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.errors import UntrustedError, VaeError, WrongVaeError
from latentstore.remeasure import Originals, Unavailable, originals_of
from latentstore.thumbnails import fault_of_likeness

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.containers.interface import ShardReader
    from latentstore.entropy import ByteCounts
    from latentstore.manifest import Manifest, ShardInfo
    from latentstore.sources.interface import OpenSource, SourceRow
    from latentstore.statistics import ChannelStatistics
    from latentstore.store import LatentStore
    from latentstore.vaes.interface import Vae, VaeRow

PASSED, FAILED, NOT_RUN = "passed", "failed", "not run"
DEPTHS = QUICK, NORMAL, FULL = "quick", "normal", "full"
"""How much is read: manifest and index; every shard once and a sample of the pictures; everything there is."""
ROWS_AT_ONCE = 256


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or that people should know."""

    file: str
    """Relative to the config's folder."""
    message: str
    warning: bool = False
    """True where the dataset is what it says, but someone may be surprised by it."""


Findings = Iterator[Finding]


@dataclass(frozen=True)
class CheckResult:
    """What one check found."""

    check: str
    status: str
    """``passed``, ``failed`` or ``not run``."""
    seconds: float
    findings: tuple[Finding, ...] = ()
    """What is wrong; empty unless it failed."""
    warnings: tuple[Finding, ...] = ()
    """What is worth knowing and no failure."""
    left_out: tuple[str, ...] = ()
    """Shards that were not looked at, because a check that this one needs had failed for them."""
    note: str = ""
    """What was looked at, or why the check was not run."""


@dataclass(frozen=True)
class Request:
    """What the caller of ``verify`` asked for."""

    depth: str = NORMAL
    sample: int = 16
    seed: int = 0
    source: SourceRow | None = None
    vae: VaeRow | None = None
    metric_weights: Path | None = None
    device: str = "cpu"
    trust: bool = False


@dataclass(frozen=True)
class ShardNumbers:
    """What the stored numbers of one shard add up to."""

    statistics: ChannelStatistics
    """Of the raw latents."""
    counts: ByteCounts
    """Of the stored bytes."""


@dataclass(frozen=True)
class ShardVisit:
    """One shard while it is looked at; what one check reads of it, the next ones reuse."""

    store: LatentStore
    split: str
    info: ShardInfo
    _held: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Let go of its file, which may be a temporary one."""
        self._held.close()

    @cached_property
    def path(self) -> Path:
        """Where its file lies until it is closed: where the dataset is, or fetched from there."""
        return self._held.enter_context(self.store.shard_file(self.info))

    @cached_property
    def reader(self) -> ShardReader:
        """The shard, opened; DamagedShardError where it is not the one the manifest describes."""
        return self.store.opened(self.path, self.info)

    @cached_property
    def columns(self) -> dict[str, list[Any]]:
        """Its scalar columns."""
        return self.reader.columns(self.store.schema.scalar_columns)

    def blocks(self) -> Iterator[tuple[int, NDArray[Any]]]:
        """Its stored numbers, (n, C, h, w) at a time, each with the number of the first row."""
        for start in range(0, self.info.rows, ROWS_AT_ONCE):
            yield start, self.reader.latents(np.arange(start, min(self.info.rows, start + ROWS_AT_ONCE)))


@dataclass
class Inspection:
    """What the checks look at; what one finds out, the next ones reuse."""

    store: LatentStore
    request: Request
    opened: OpenSource | None = None
    """The source that was asked for, where one was."""
    index: dict[str, list[Any]] = field(default_factory=dict)
    """All columns of index.parquet, once the check ``index`` has found it sound."""
    numbers: dict[str, ShardNumbers] = field(default_factory=dict)
    """Of every shard whose latents are sound, by path."""
    thumbnail_bytes: dict[str, int] = field(default_factory=dict)
    """Of the thumbnails in every shard whose thumbnails were read, by path."""
    thumbnails: dict[int, bytes] = field(default_factory=dict)
    """The sound ones of those rows of the index that are compared with what they decode to."""
    likenesses: dict[int, str] = field(default_factory=dict)
    """What is wrong with each thumbnail that was compared so; empty where nothing is."""
    pictures: dict[int, str] = field(default_factory=dict)
    """What is wrong with the source picture of each row that was compared with it; empty where nothing is."""
    left_out: frozenset[str] = frozenset()
    """Shards that the running check must not look at."""
    note: str = ""
    """What the running check looked at."""
    tell: Callable[[int, int], None] = lambda done, total: None  # noqa: ARG005
    """Takes how much of the running check is done, and how much there is."""
    _model: list[Vae] = field(default_factory=list)
    _originals: list[Originals] = field(default_factory=list)

    @property
    def manifest(self) -> Manifest:
        """What is verified."""
        return self.store.manifest

    def shards(self) -> Iterator[tuple[str, ShardInfo]]:
        """(split, shard entry) of every shard, in order."""
        for split, info in self.manifest.splits.items():
            for shard in info.shards:
                yield split, shard

    @cached_property
    def starts(self) -> Mapping[str, int]:
        """The row of the index at which each shard begins, by path."""
        rows = np.cumsum([0, *(info.rows for _, info in self.shards())]).tolist()
        return {info.path: start for (_, info), start in zip(self.shards(), rows, strict=False)}

    def sound_rows(self) -> NDArray[np.int64]:
        """Rows of the index whose shards may be looked at, ascending."""
        spans = [
            np.arange(self.starts[info.path], self.starts[info.path] + info.rows)
            for _, info in self.shards()
            if info.path not in self.left_out
        ]
        return np.concatenate([np.empty(0, np.int64), *spans])

    def drawn_rows(self) -> NDArray[np.int64]:
        """The seeded sample of those, ascending; all of them at full depth. Unavailable where none is drawn."""
        rows = self.sound_rows()
        if self.request.depth != FULL:
            drawn = np.random.default_rng(self.request.seed).permutation(len(rows))[: self.request.sample]
            rows = rows[np.sort(drawn)]
        if len(rows) == 0:
            raise Unavailable("no row was drawn: the sample is 0")
        return rows

    @cached_property
    def watched_rows(self) -> NDArray[np.int64]:
        """Those that are drawn where all shards are sound, known before any is looked at, ascending."""
        rows = np.arange(sum(info.rows for _, info in self.shards()))
        if self.request.depth == FULL:
            return rows
        return np.sort(np.random.default_rng(self.request.seed).permutation(len(rows))[: self.request.sample])

    def model(self) -> Vae:
        """The recorded VAE, loaded once; Unavailable where it is not at hand, WrongVaeError where it is another."""
        if not self._model:
            try:
                self._model.append(self._load_vae())
            except WrongVaeError:
                raise
            except UntrustedError as error:
                raise Unavailable(str(error)) from error
            except VaeError as error:
                raise Unavailable(f"the VAE is not at hand: {error}") from error
        return self._model[0]

    def _load_vae(self) -> Vae:
        return self.store.load_vae(self.request.vae, device=self.request.device, trust=self.request.trust)

    def compare_thumbnails(self, rows: Sequence[int], decoded: torch.Tensor) -> None:
        """Note what is wrong with the thumbnails of these rows; ``decoded`` is theirs, (N, 3, H, W) uint8."""
        pictures = decoded.permute(0, 2, 3, 1).cpu().numpy()
        for row, picture in zip(rows, pictures, strict=True):
            file = self.thumbnails.get(row)
            if file is not None:
                true = picture[: self.index["height"][row], : self.index["width"][row]]
                self.likenesses[row] = fault_of_likeness(file, true, self.manifest.thumbnail) or ""

    def originals(self) -> Originals:
        """The source pictures, opened once; Unavailable where they are not at hand, SourceError where they differ."""
        if not self._originals:
            try:
                found = originals_of(self.store, self.request.source, self.opened, trust=self.request.trust)
            except UntrustedError as error:
                raise Unavailable(str(error)) from error
            self._originals.append(found)
        return self._originals[0]


def nothing(_: Inspection) -> Findings:
    """Of a check that has said everything shard by shard."""
    return iter(())


@dataclass(frozen=True)
class CheckRow:
    """One check."""

    name: str
    summary: str
    run: Callable[[Inspection], Findings] = nothing
    """Looks at the dataset as a whole; of a check with ``of_shard``, after all shards."""
    needs: tuple[str, ...] = ()
    """Checks that must have passed before this one means anything; of one about shards, for the shard at hand."""
    depth: str = QUICK
    """The least depth at which it runs."""
    of_shard: Callable[[Inspection, ShardVisit], Findings] | None = None
    """Looks at one shard."""
    by_shard: bool = False
    """Whether what it finds wrong with one shard leaves the others as they are."""


def some(names: Iterable[str]) -> str:
    """The first names of a list, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - 3:,} more" if len(listed) > 3 else ""
    return f"{', '.join(listed[:3])}{more}"


def counted(number: int, what: str) -> str:
    """``1 shard``, ``3 shards``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def first_difference(left: Sequence[Any], right: Sequence[Any]) -> int | None:
    """The first place at which two columns differ, NaN being equal to NaN; None where there is none."""
    if left == right:
        return None
    if len(left) != len(right):
        return min(len(left), len(right))
    pairs = enumerate(zip(left, right, strict=True))
    return next((place for place, (one, other) in pairs if one != other and repr(one) != repr(other)), None)
