"""What needs more than the dataset itself: the VAE's weights and the source's pictures."""

from __future__ import annotations

import numpy as np

from latentstore.checks.interface import FULL, Finding, Findings, Inspection, counted
from latentstore.errors import SourceError, WrongVaeError
from latentstore.manifest import FILE_NAME, Manifest
from latentstore.metrics.table import METRICS
from latentstore.remeasure import Unavailable, remeasured, scorers_at_hand

QUALITY_TOLERANCE = {"psnr": 0.05, "ssim": 1e-3, "mae": 1e-3, "lpips": 1e-3, "lpips_vgg": 1e-3, "ssim_vaes4rs": 1e-3}
"""How far a re-measured score may be from the recorded one: kernels of other devices and batch sizes round differently,
which moves single decoded values by one step of 255."""


def check_identity(inspection: Inspection) -> Findings:
    """The VAE at hand is the recorded one: sha256 of its weights, class, channels, stride, normalisation."""
    try:
        model = inspection.model()
    except WrongVaeError as error:
        yield Finding(FILE_NAME, str(error))
        return
    sha256 = model.identity.weights_sha256
    inspection.note = f"weights {sha256[:12]}…" if sha256 else f"{model.identity.class_name} has no weights"


def check_quality(inspection: Inspection) -> Findings:
    """Drawn rows, decoded and measured again against their source pictures, have the recorded scores."""
    manifest, index = inspection.manifest, inspection.index
    if not manifest.metrics:
        raise Unavailable(_unmeasured(manifest))
    rows = inspection.drawn_rows()
    scorers, lacking = scorers_at_hand(manifest.metrics, inspection.request.metric_weights)
    if not scorers:
        raise Unavailable(f"the weights of {', '.join(lacking)} are not at hand; say where with --metric-weights")
    try:
        originals = inspection.originals()
    except SourceError as error:
        raise Unavailable(
            f"the source holds other pictures than those that were encoded, see `source` ({error})"
        ) from error
    measured = 0
    again = remeasured(
        inspection.store,
        index,
        rows,
        model=inspection.model(),
        originals=originals,
        scorers=scorers,
        look=inspection.compare_thumbnails,
    )
    for done, row in enumerate(again, 1):
        inspection.tell(done, len(rows))
        inspection.pictures[row.row] = row.changed
        if row.changed:
            continue
        measured += 1
        for name, (recorded, found) in row.scores.items():
            if not _close(recorded, found, QUALITY_TOLERANCE.get(name, 0.0)):
                yield Finding(row.shard, f"{row.id!r}: {name} is recorded as {recorded}, measured again it is {found}")
    if measured == 0:
        raise Unavailable("none of the drawn rows still has its source picture, see `source`")
    unknown = [name for name in manifest.metrics if name not in METRICS]
    inspection.note = (
        f"{counted(measured, 'row')} decoded and measured again"
        + (f"; {len(rows) - measured} without their picture, see `source`" if measured < len(rows) else "")
        + (f"; without {', '.join(lacking)}, whose weights are not at hand" if lacking else "")
        + (f"; without {', '.join(unknown)}, unknown to this version" if unknown else "")
    )


def _unmeasured(manifest: Manifest) -> str:
    if any(not step.lossless and not step.measured for step in manifest.storage.converted):
        return "the numbers were rounded when the dataset was converted, and its quality was not measured again"
    return "no metric was recorded when the dataset was built"


def _close(recorded: float | None, found: float, tolerance: float) -> bool:
    if recorded is None:
        return bool(np.isnan(found))
    return recorded == found or abs(recorded - found) <= tolerance


def check_source(inspection: Inspection) -> Findings:
    """Source pictures have the sha256 that the rows record: all of them where asked for, else those of drawn rows."""
    whole = inspection.request.depth == FULL or inspection.request.source is not None
    rows = inspection.sound_rows() if whole else inspection.drawn_rows()
    try:
        originals = inspection.originals()
    except SourceError as error:
        yield Finding(FILE_NAME, str(error))
        return
    known = np.array([row in inspection.pictures for row in rows.tolist()], bool)
    pictures = {row: inspection.pictures[row] for row in rows[known].tolist()}
    for row, changed in originals.compared(inspection.index, rows[~known]):
        pictures[row] = changed
        inspection.tell(len(pictures), len(rows))
    for row, changed in sorted(pictures.items()):
        if changed:
            path = inspection.index["source_path"][row]
            yield Finding(inspection.index["shard"][row], f"{inspection.index['id'][row]!r} ({path}): {changed}")
    inspection.note = f"the pictures of {counted(len(rows), 'row')} hashed" + ("" if whole else ", a sample")
