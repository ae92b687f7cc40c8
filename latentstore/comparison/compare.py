"""compare(): several VAEs on the same pictures, in one table: what they cost, what they keep, what they lose.

Every VAE goes through an ordinary ``build`` into a folder of its own, so the numbers are those of its manifest. Metrics
that need weights, and those of whole sets, look on while the build goes by; pictures are encoded and decoded once.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latentstore.build import Progress, build
from latentstore.comparison.protocols import OURS, ColumnRow, ProtocolRow, Score
from latentstore.comparison.published import PublishedRow, published_for
from latentstore.comparison.rate_curves import EncoderRow, RateCurve, mean_scores, rate_curve
from latentstore.comparison.replay import replay
from latentstore.comparison.sampled_posterior import SAMPLE, sampled
from latentstore.errors import LatentStoreError, RequestError
from latentstore.manifest import Manifest, SizeLedger
from latentstore.metrics.inception import truncated_uint8
from latentstore.metrics.interface import SetScorer, open_together, update_together
from latentstore.metrics.table import METRICS
from latentstore.pixels import Preparation, to_uint8
from latentstore.plan import BuildPlan
from latentstore.quality import MetricSummary, summarise
from latentstore.sources.sample import sample_of
from latentstore.store import LatentStore

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from latentstore.metrics.interface import MetricRow, Scorer, SetMetricRow
    from latentstore.normalisation import Normalisation
    from latentstore.records import LatentBatch
    from latentstore.sources.interface import SourceRow
    from latentstore.vaes.interface import Vae, VaeIdentity, VaeRow

    Picture = NDArray[np.uint8]

CURVE_PICTURES = 64
"""Pictures behind the rate curves, at most: encoding all of a large dataset at every quality would take hours."""


@dataclass(frozen=True)
class ComparedVae:
    """One VAE's line of the table."""

    vae: str
    summary: str
    channels: int
    stride: int
    parameters: int | None
    gflops_256: float | None
    """Of encode and decode of one 256x256 picture, 2 a multiply-add; None where it was not counted."""
    reason: str = ""
    """Why it was not measured; empty where it was. Everything below is only there where it was."""
    config: str = ""
    latent_shape: tuple[int, int, int] | None = None
    posterior: str = ""
    """What was stored: ``mean``, or ``sample``."""
    device: str = ""
    dtype: str = ""
    rows: int = 0
    """Pictures measured."""
    skipped: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    """By the name of the protocol's column."""
    size: SizeLedger | None = None
    quality: Mapping[str, MetricSummary] = field(default_factory=dict)
    """Every metric of the config, as in its manifest."""
    rate_scores: Mapping[str, float] = field(default_factory=dict)
    """Means over the pictures of the rate curves, by metric."""
    pictures: Mapping[str, Picture] = field(default_factory=dict)
    """Decoded pictures (H, W, 3) of the figure, by id."""

    @property
    def measured(self) -> bool:
        """False where there are no numbers."""
        return not self.reason


@dataclass(frozen=True)
class Comparison:
    """Several VAEs on the same pictures."""

    source: str
    location: str
    revision: str | None
    options: Mapping[str, Any]
    available: int
    """Pictures that the source holds, or the sample of it."""
    limit: int | None
    """How many were drawn from it; None where all were taken."""
    protocol: ProtocolRow
    columns: tuple[ColumnRow, ...]
    """The protocol's, with this comparison's batch size in their words."""
    preparation: Preparation
    seed: int
    batch_size: int
    vaes: tuple[ComparedVae, ...]
    published: tuple[PublishedRow, ...] = ()
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Columns without numbers: what they lack and how to get it."""
    curves: tuple[RateCurve, ...] = ()
    rate_metrics: tuple[MetricRow, ...] = ()
    """What quality means there: PSNR, and LPIPS where there is one."""
    curve_pictures: int = 0
    """How many of the pictures are behind the curves and ``rate_scores``."""
    originals: Mapping[str, Picture] = field(default_factory=dict)
    """Prepared pictures (H, W, 3) of the figure, by id."""
    out: Path | None = None
    """Where the built configs are; None where they were not kept."""

    @property
    def ok(self) -> bool:
        """True where every VAE was measured."""
        return all(vae.measured for vae in self.vaes)

    @property
    def rows(self) -> int:
        """Pictures measured, of the VAE with the most."""
        return max((vae.rows for vae in self.vaes), default=0)


def compare(
    source: SourceRow,
    vaes: Sequence[VaeRow],
    *,
    protocol: ProtocolRow = OURS,
    out: str | Path | None = None,
    limit: int | None = None,
    preparation: Preparation | None = None,
    device: str = "cpu",
    dtype: str | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    weights: str | Path | None = None,
    pictures: int = 0,
    encoders: Sequence[EncoderRow] = (),
    progress: Callable[[str], Progress | None] | None = None,
) -> Comparison:
    """Measure every VAE on the pictures of one source, or on a seeded sample of ``limit`` of them.

    ``out`` keeps the built configs, and configs found there are used again; without it they are built in a temporary
    folder. ``dtype`` and ``batch_size`` are the protocol's where not given. ``weights`` is a folder with the files that
    LPIPS and FID want. ``pictures`` is how many pictures to keep for a figure, ``encoders`` the image files to draw
    curves of. ``progress`` gives the callback for the build of the VAE it is told.

    A VAE that cannot be measured is a line that says why. Raises SourceError where the source cannot be read and
    RequestError where what is asked for cannot be done, each with one clear sentence.
    """
    _check(vaes, pictures)
    if limit is not None:
        source = sample_of(source, limit, seed)
    opened = source.open()
    wanted, unavailable = _columns(protocol, weights)
    with _workplace(out) as root:
        workshop = _Workshop(
            source=source,
            protocol=protocol,
            root=root,
            keep=out is not None,
            preparation=preparation or Preparation(),
            device=device,
            dtype=dtype or protocol.dtype,
            seed=seed,
            batch_size=batch_size or protocol.batch_size,
            picture_scorers={name: metric.open() for name, metric in wanted.pictures.items()},
            set_scorers=open_together(list(wanted.sets.values())),
            wanted=wanted,
            unavailable=unavailable,
            chosen=_Chosen(pictures, max(pictures, CURVE_PICTURES) if encoders else pictures, seed),
            curves=bool(encoders),
        )
        lines = tuple(_line(workshop, row, progress(row.name) if progress else None) for row in vaes)
        chosen = workshop.chosen
        behind = [chosen.originals[name] for name in chosen.ids if name in chosen.originals]
        curves = [rate_curve(encoder, behind, workshop.rate_scorers) for encoder in encoders] if behind else []
        return Comparison(
            source=source.name,
            location=source.location,
            revision=opened.revision or source.revision,
            options=dict(source.options),
            available=sum(map(len, opened.splits.values())),
            limit=limit,
            protocol=protocol,
            columns=workshop.columns,
            preparation=workshop.preparation,
            seed=seed,
            batch_size=workshop.batch_size,
            vaes=lines,
            published=published_for(source.name),
            unavailable=unavailable,
            curves=tuple(curves),
            rate_metrics=workshop.rate_metrics if curves else (),
            curve_pictures=len(behind) if curves else 0,
            originals={name: chosen.originals[name] for name in chosen.shown if name in chosen.originals},
            out=root if out is not None else None,
        )


# Before the first VAE ------------------------------------------------------------------------------------------------


def _check(vaes: Sequence[VaeRow], pictures: int) -> None:
    names = [row.name for row in vaes]
    if not names:
        raise RequestError("There is nothing to compare: name at least one VAE.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise RequestError(f"Two VAEs are named {twice!r}: give one of the rows another name.")
    if pictures < 0:
        raise RequestError(f"Expected 0 or more pictures for the figure, found {pictures}.")


@dataclass(frozen=True)
class _Wanted:
    """Metrics that look on, with their weights, by the name of their column."""

    pictures: Mapping[str, MetricRow]
    sets: Mapping[str, SetMetricRow]


def _columns(protocol: ProtocolRow, weights: str | Path | None) -> tuple[_Wanted, dict[str, str]]:
    """The metrics that can be had, and for each of the others what it lacks."""
    pictures: dict[str, MetricRow] = {}
    sets: dict[str, SetMetricRow] = {}
    unavailable: dict[str, str] = {}
    for column in protocol.columns:
        if column.picture is not None:
            found = column.picture.at(weights)
            unavailable[column.name] = found.unavailable()
            pictures[column.name] = found
        elif column.set is not None:
            network = column.set.at(weights)
            unavailable[column.name] = network.unavailable()
            sets[column.name] = network
    lacking = {name: reason for name, reason in unavailable.items() if reason}
    return (
        _Wanted(
            {name: metric for name, metric in pictures.items() if name not in lacking},
            {name: metric for name, metric in sets.items() if name not in lacking},
        ),
        lacking,
    )


@contextmanager
def _workplace(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="latentstore-compare-") as folder:
        yield Path(folder)


@dataclass
class _Chosen:
    """The pictures of the figure and of the curves: drawn once, from the ids of the first VAE that is measured."""

    count_shown: int
    count: int
    seed: int
    ids: tuple[str, ...] = ()
    originals: dict[str, Picture] = field(default_factory=dict)

    @property
    def shown(self) -> tuple[str, ...]:
        """Those of the figure."""
        return self.ids[: self.count_shown]

    def draw(self, ids: Sequence[str]) -> None:
        """Choose, unless that was done: the same for every order of the ids."""
        if self.count and not self.ids:
            order = np.random.default_rng([self.seed, len(ids)]).permutation(len(ids))[: self.count]
            names = sorted(ids)
            self.ids = tuple(names[place] for place in order.tolist())


@dataclass(frozen=True)
class _Workshop:
    """Everything that is the same for each VAE."""

    source: SourceRow
    protocol: ProtocolRow
    root: Path
    keep: bool
    preparation: Preparation
    device: str
    dtype: str
    seed: int
    batch_size: int
    picture_scorers: Mapping[str, Scorer]
    set_scorers: Mapping[str, SetScorer]
    wanted: _Wanted
    unavailable: Mapping[str, str]
    chosen: _Chosen
    curves: bool
    """Whether there will be curves to stand beside."""

    @property
    def columns(self) -> tuple[ColumnRow, ...]:
        """With the batch size in their words."""
        said = {"{batch_size}": str(self.batch_size)}
        return tuple(
            replace(column, title=_said(column.title, said), how=_said(column.how, said))
            for column in self.protocol.columns
        )

    @property
    def rate_metrics(self) -> tuple[MetricRow, ...]:
        """PSNR of every picture in the usual sense, and LPIPS where there is one."""
        return METRICS["psnr"], *self.wanted.pictures.values()

    @property
    def rate_scorers(self) -> dict[str, Scorer]:
        """Those, loaded."""
        perceptual = {metric.name: self.picture_scorers[name] for name, metric in self.wanted.pictures.items()}
        return {"psnr": METRICS["psnr"].open(), **perceptual}

    def plan(self, row: VaeRow) -> BuildPlan:
        """What is built for a VAE; the plain plan of ``latentstore build``, but for what was asked for."""
        limit = self.source.options.get("limit")
        parts = [self.source.name, f"limit{limit}" if limit else "", row.name]
        parts += [self.protocol.name if self.protocol is not OURS else "", f"seed{self.seed}" if self.seed else ""]
        return BuildPlan(
            source=self.source,
            vae=row,
            config="-".join(part for part in parts if part),
            metrics=self.protocol.stored,
            preparation=self.preparation,
            order=self.protocol.order,
            seed=self.seed,
            batch_size=self.batch_size,
            device=self.device,
            dtype=self.dtype,
        )


def _said(text: str, words: Mapping[str, str]) -> str:
    for placeholder, value in words.items():
        text = text.replace(placeholder, value)
    return text


# One VAE -------------------------------------------------------------------------------------------------------------


def _line(workshop: _Workshop, row: VaeRow, progress: Progress | None) -> ComparedVae:
    """The VAE's numbers, or why there are none: the others go on."""
    try:
        return _measured(workshop, row, progress)
    except LatentStoreError as error:
        return replace(_blank(row), reason=" ".join(str(error).split()))
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        reason = f"The {workshop.device} ran out of memory with batches of {workshop.batch_size}: try a smaller one."
        return replace(_blank(row), reason=reason)


def _blank(row: VaeRow) -> ComparedVae:
    return ComparedVae(
        vae=row.name,
        summary=row.summary,
        channels=row.channels,
        stride=row.stride,
        parameters=row.parameters,
        gflops_256=row.gflops_256,
    )


def _is_out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.cuda.OutOfMemoryError)


def _measured(workshop: _Workshop, row: VaeRow, progress: Progress | None) -> ComparedVae:
    asked = sampled(row, workshop.seed) if workshop.protocol.posterior == SAMPLE else row
    vae = _RememberingVae(asked.load(device=workshop.device, dtype=workshop.dtype))
    plan = workshop.plan(replace(row, family=lambda _row, _options: vae))  # loaded once
    onlooker = _Onlooker(workshop, vae)
    try:
        manifest = build(plan, workshop.root, progress=progress, observe=onlooker)
        store = LatentStore(workshop.root / plan.config, manifest)
        if onlooker.wants_pictures and onlooker.pictures < manifest.rows:  # of an earlier run, not decoded in this one
            onlooker = _Onlooker(workshop, vae)
            for batch in replay(store, plan, vae):
                onlooker(batch.original, batch.decoded)
        index = store.index()
        decoded = _chosen_pictures(workshop, store, plan, vae, index["id"])
        return _filled(workshop, row, store.manifest, index, onlooker, decoded)
    finally:
        if not workshop.keep:
            shutil.rmtree(workshop.root / plan.config, ignore_errors=True)


def _chosen_pictures(
    workshop: _Workshop, store: LatentStore, plan: BuildPlan, vae: Vae, ids: Sequence[str]
) -> dict[str, Picture]:
    """The decoded pictures of the figure and the curves, by id; the originals are kept on the way."""
    chosen = workshop.chosen
    chosen.draw(ids)
    found: dict[str, Picture] = {}
    if not chosen.ids:
        return found
    for batch in replay(store, plan, vae, ids=set(chosen.ids)):
        for name, original, decoded in zip(batch.ids, batch.original, batch.decoded, strict=True):
            chosen.originals.setdefault(name, _picture(original))
            found[name] = _picture(decoded)
    return found


def _picture(planes: torch.Tensor) -> Picture:
    return np.ascontiguousarray(planes.permute(1, 2, 0).cpu().numpy())


def _filled(
    workshop: _Workshop,
    row: VaeRow,
    manifest: Manifest,
    index: Mapping[str, Sequence[Any]],
    onlooker: _Onlooker,
    decoded: Mapping[str, Picture],
) -> ComparedVae:
    chosen = workshop.chosen
    pairs = [(chosen.originals[name], decoded[name]) for name in chosen.ids if name in decoded]
    return replace(
        _blank(row),
        config=manifest.config,
        latent_shape=manifest.latent_shape,
        posterior=manifest.posterior,
        device=manifest.environment.device,
        dtype=manifest.environment.dtype,
        rows=manifest.rows,
        skipped=len(manifest.build.skipped),
        scores={
            column.name: Score(None, workshop.unavailable[column.name])
            if column.name in workshop.unavailable
            else column.read(manifest, index, workshop.batch_size)
            if column.read is not None
            else onlooker.score(column.name)
            for column in workshop.columns
        },
        size=manifest.size,
        quality=manifest.quality,
        rate_scores=mean_scores(pairs, workshop.rate_scorers) if workshop.curves else {},
        pictures={name: decoded[name] for name in chosen.shown if name in decoded},
    )


class _RememberingVae:
    """A loaded VAE that remembers its last pictures before they became 8-bit numbers."""

    def __init__(self, vae: Vae) -> None:
        self._vae = vae
        self._last: torch.Tensor | None = None

    @property
    def row(self) -> VaeRow:
        """See ``Vae.row``."""
        return self._vae.row

    @property
    def identity(self) -> VaeIdentity:
        """See ``Vae.identity``."""
        return self._vae.identity

    @property
    def normalisation(self) -> Normalisation:
        """See ``Vae.normalisation``."""
        return self._vae.normalisation

    def encode(self, pixels: torch.Tensor) -> LatentBatch:
        """See ``Vae.encode``."""
        return self._vae.encode(pixels)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """See ``Vae.decode``."""
        self._last = self._vae.decode(latents)
        return self._last

    def unrounded(self, seen: torch.Tensor) -> torch.Tensor:
        """The pictures (N, 3, H, W) in [0, 1] of which rounding made ``seen``, just decoded."""
        import torch

        if self._last is None:
            raise RequestError("No picture was decoded yet.")
        last = self._last[:, :, : seen.shape[2], : seen.shape[3]]
        if len(last) == len(seen):
            return last
        # Pictures of another true size were in the same batch: find these among them.
        rounded = list(to_uint8(last))
        places: list[int] = []
        for picture in seen:
            places.append(next(i for i, other in enumerate(rounded) if i not in places and torch.equal(picture, other)))
        return last[places]


class _Onlooker:
    """Takes in every picture of one VAE as it is measured."""

    def __init__(self, workshop: _Workshop, vae: _RememberingVae) -> None:
        self._metrics = workshop.wanted
        self._scorers = workshop.picture_scorers
        self._vae = vae
        by_name = {metric.name: name for name, metric in workshop.wanted.sets.items()}
        # The network is shared by all VAEs, what it has seen is not.
        self._sets = {
            by_name[name]: replace(scorer, distance=scorer.row.distance(scorer.row.network.features))
            for name, scorer in workshop.set_scorers.items()
        }
        self._scores: dict[str, list[float]] = {name: [] for name in self._scorers}
        self.pictures = 0

    @property
    def wants_pictures(self) -> bool:
        """False where it has nothing to measure."""
        return bool(self._scorers or self._sets)

    def __call__(self, original: torch.Tensor, decoded: torch.Tensor) -> None:
        """One batch of pictures of one size, uint8."""
        self.pictures += len(original)
        for name, scorer in self._scorers.items():
            self._scores[name].extend(scorer(original, decoded).tolist())
        truncated = [scorer for scorer in self._sets.values() if scorer.row.truncated]
        update_together([scorer for scorer in self._sets.values() if not scorer.row.truncated], original, decoded)
        if truncated:
            unrounded = self._vae.unrounded(decoded)
            update_together(truncated, truncated_uint8(original.float() / 255), truncated_uint8(unrounded))

    def score(self, column: str) -> Score:
        """What came out for a column."""
        if column in self._sets:
            if self.pictures < 2:
                return Score(None, "it compares sets of 2 pictures or more", self.pictures)
            found = self._sets[column].compute()
            return Score(found.value, n=found.n, warnings=found.warnings)
        scores = np.array(self._scores[column], np.float64)
        names = [str(number) for number in range(len(scores))]
        summary = summarise(
            self._metrics.pictures[column], scores, np.ones(len(scores)), names, [None] * len(scores), ()
        )
        missing = "" if summary.mean is not None else "no picture is large enough"
        return Score(summary.mean, missing, summary.n, summary.median, summary.p5, summary.p95)
