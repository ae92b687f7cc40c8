"""compare(): several VAEs on the same pictures, in one table: what they cost, what they keep, what they lose.

Every VAE goes through an ordinary ``build`` into a folder of its own, so the numbers are those of its manifest. Metrics
that need weights, and those of whole sets, look on while the build goes by; pictures are encoded and decoded once, but
for those of the figure and of the rate curves.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentstore.build import build
from latentstore.build_progress import BuildProgress, Progress
from latentstore.comparison.chosen import CURVE_PICTURES, ChosenPictures
from latentstore.comparison.onlooker import Onlooker, OnlookingMetrics, RememberingVae
from latentstore.comparison.protocols import OURS, ColumnRow, ProtocolRow, Score
from latentstore.comparison.published import published_for
from latentstore.comparison.rate_curves import EncoderRow, mean_scores, rate_curve
from latentstore.comparison.replay import Replay
from latentstore.comparison.result import ComparedVae, Comparison
from latentstore.comparison.sampled_posterior import SAMPLE, sampled
from latentstore.comparison.storage_curves import StoragePoint, candidates_in, named, storage_points
from latentstore.errors import LatentStoreError, RequestError
from latentstore.metrics.table import METRICS
from latentstore.pixels import Preparation
from latentstore.plan import BuildPlan
from latentstore.sources.sample import sample_of
from latentstore.store import LatentStore

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from latentstore.calibration import Candidate
    from latentstore.manifest import Manifest
    from latentstore.metrics.interface import MetricRow, Scorer
    from latentstore.records import Tile
    from latentstore.sources.interface import SourceRow
    from latentstore.storage.interface import StorageRow
    from latentstore.vaes.interface import VaeRow

    Picture = NDArray[np.uint8]


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
    storages: Sequence[StorageRow] = (),
    progress: Callable[[str], Progress | None] | None = None,
) -> Comparison:
    """Measure every VAE on the pictures of one source, or on a seeded sample of ``limit`` of them.

    ``out`` keeps the built configs, and configs found there are used again; without it they are built in a temporary
    folder. ``dtype`` and ``batch_size`` are the protocol's where not given. ``weights`` is a folder with the files that
    LPIPS and FID want. ``pictures`` is how many pictures to keep for a figure, ``encoders`` the image files to draw
    curves of, ``storages`` the number formats in which each VAE's latents of the same pictures are measured too.
    ``progress`` gives the callback for the build of the VAE it is told.

    A VAE that cannot be measured is a line that says why. Raises SourceError where the source cannot be read and
    RequestError where what is asked for cannot be done, each with one clear sentence.
    """
    _check(vaes, pictures)
    if limit is not None:
        source = sample_of(source, limit, seed)
    opened = source.open()
    metrics = OnlookingMetrics.of(protocol, weights)
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
            metrics=metrics,
            chosen=ChosenPictures(pictures, CURVE_PICTURES if encoders or storages else 0, seed),
            storages=tuple(storages),
        )
        lines = tuple(_line(workshop, row, progress(row.name) if progress else None) for row in vaes)
        behind = [tile.pixels for tile in workshop.chosen.of_curves()]
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
            unavailable=metrics.unavailable,
            curves=tuple(curves),
            rate_metrics=workshop.rate_metrics if behind else (),
            curve_pictures=len(behind),
            originals=workshop.chosen.of_figure(),
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


@contextmanager
def _workplace(out: str | Path | None) -> Iterator[Path]:
    if out is not None:
        yield Path(out).expanduser()
        return
    with tempfile.TemporaryDirectory(prefix="latentstore-compare-") as folder:
        yield Path(folder)


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
    metrics: OnlookingMetrics
    chosen: ChosenPictures
    storages: tuple[StorageRow, ...]

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
        return METRICS["psnr"], *self.metrics.pictures.values()

    @property
    def rate_scorers(self) -> dict[str, Scorer]:
        """Those, loaded."""
        scorers = self.metrics.picture_scorers
        perceptual = {metric.name: scorers[name] for name, metric in self.metrics.pictures.items()}
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
            thumbnail=0,  # so that stored bytes are those of numbers and columns
            max_bad=1.0,  # the report says how many could not be used
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
    vae = RememberingVae(asked.load(device=workshop.device, dtype=workshop.dtype))
    plan = workshop.plan(replace(row, family=lambda _row, _options: vae))  # loaded once
    onlooker = Onlooker(workshop.metrics, vae)
    try:
        manifest = build(plan, workshop.root, progress=progress, observe=onlooker)
        store = LatentStore(workshop.root / plan.config, manifest)
        if onlooker.wants_pictures and onlooker.pictures < manifest.rows:  # of an earlier run, not decoded in this one
            onlooker = Onlooker(workshop.metrics, vae)
            for batch in Replay.of(store, plan).batches(vae):
                onlooker(batch.original, batch.decoded)
        index = store.index()
        line = _scored(workshop, row, store.manifest, index, onlooker)
        workshop.chosen.draw(index["id"])
        return _pictured(workshop, line, Replay.of(store, plan), vae, progress) if workshop.chosen.ids else line
    finally:
        if not workshop.keep:
            shutil.rmtree(workshop.root / plan.config, ignore_errors=True)


def _scored(
    workshop: _Workshop, row: VaeRow, manifest: Manifest, index: Mapping[str, Sequence[Any]], onlooker: Onlooker
) -> ComparedVae:
    """What the config and the onlooker say."""
    lacking = workshop.metrics.unavailable
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
            column.name: Score(None, lacking[column.name])
            if column.name in lacking
            else column.read(manifest, index, workshop.batch_size)
            if column.read is not None
            else onlooker.score(column.name)
            for column in workshop.columns
        },
        size=manifest.size,
        quality=manifest.quality,
    )


def _pictured(
    workshop: _Workshop, line: ComparedVae, replay: Replay, vae: RememberingVae, progress: Progress | None
) -> ComparedVae:
    """What the chosen pictures say: the figure's, and the points of the rate curves."""
    chosen = workshop.chosen
    decoded = chosen.decoded(replay, vae)
    behind = chosen.of_curves(among=decoded)
    pairs = [(tile.pixels, decoded[tile.id]) for tile in behind]
    return replace(
        line,
        rate_scores=mean_scores(pairs, workshop.rate_scorers) if behind else {},
        storages=_storages(workshop, behind, replay.padded, vae, progress),
        pictures={name: decoded[name] for name in chosen.of_figure() if name in decoded},
    )


def _storages(
    workshop: _Workshop,
    tiles: Sequence[Tile],
    padded: tuple[int, int],
    vae: RememberingVae,
    progress: Progress | None,
) -> tuple[StoragePoint, ...]:
    if not workshop.storages or not tiles:
        return ()

    def say(candidate: Candidate) -> None:
        if progress is not None:
            count = len(tiles)
            progress(BuildProgress(f"measuring {named(candidate)}", count, count, skipped=0, resumed=0, psnr=None))

    return storage_points(
        vae,
        tiles,
        padded,
        candidates_in(workshop.storages),
        workshop.rate_scorers,
        batch_size=workshop.batch_size,
        progress=say,
    )
