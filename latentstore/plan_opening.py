"""Opening a plan: source, rows and VAE, and what the plan left to the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from latentstore.batch_size import fastest_batch_size
from latentstore.calibration import ChosenStorage
from latentstore.containers.arrow_features import refuse_column
from latentstore.errors import MetricError, RequestError
from latentstore.garbage import collection_paused
from latentstore.pictures import PictureReader
from latentstore.plan import BuildPlan, PlannedRows, plan_rows
from latentstore.safe_compute import as_planned
from latentstore.shard_work import schema_of

if TYPE_CHECKING:
    from latentstore.sources.interface import OpenSource
    from latentstore.vaes.interface import Vae


@dataclass(frozen=True)
class OpenedPlan:
    """A plan with everything it names at hand, and nothing left open."""

    plan: BuildPlan
    source: OpenSource
    rows: PlannedRows
    vae: Vae
    fingerprint: Mapping[str, Any]

    @property
    def reader(self) -> PictureReader:
        """Of its pictures."""
        return PictureReader(self.plan, self.source, self.rows)


def with_threads(plan: BuildPlan, known: Mapping[str, Any] | None) -> BuildPlan:
    """The plan with the threads of a CPU that it leaves open: those that the folder was begun with, else torch's."""
    if plan.device != "cpu" or plan.threads is not None:
        return plan
    if known is not None:
        return replace(plan, threads=known.get("threads"))
    with collection_paused():
        import torch

    return replace(plan, threads=torch.get_num_threads())


def refuse_columns(plan: BuildPlan, source: OpenSource, rows: PlannedRows) -> None:
    """RequestError where a column of the source cannot be passed through, or two would share a name."""
    for name, feature in source.features.items():
        try:
            refuse_column(feature, name)
        except RequestError as error:
            raise RequestError(f"{str(error).rstrip('.')}: leave it out with --drop-columns {name}.") from error
    schema_of(PictureReader(plan, source, rows), ChosenStorage("float32"))


def refuse_metrics(plan: BuildPlan) -> None:
    """MetricError where a metric lacks its weights."""
    for metric in plan.metrics:
        lacking = metric.unavailable()
        if lacking:
            raise MetricError(lacking)


def opened(plan: BuildPlan, known: Mapping[str, Any] | None) -> OpenedPlan:
    """Open a plan; ``known`` is the plan that its folder holds the result or the beginning of, as JSON.

    What cannot be built of it is refused here, before a picture is encoded.

    A batch size that is to be found is that of ``known`` where there is one, and measured where there is none.
    """
    plan = with_threads(plan, known)
    with as_planned(plan):
        source = plan.source.open()
        rows = plan_rows(plan, source)
        refuse_columns(plan, source, rows)
        vae = plan.vae.load(device=plan.device, dtype=plan.dtype)
        if plan.find_batch_size:
            size = known.get("batch_size") if known is not None else None
            if not isinstance(size, int):
                refuse_metrics(plan)  # pictures are encoded to measure
            size = size if isinstance(size, int) else fastest_batch_size(PictureReader(plan, source, rows), vae)
            plan = replace(plan, batch_size=size, find_batch_size=False)
    return OpenedPlan(plan, source, rows, vae, plan.fingerprint(source, rows, vae.identity))
