"""Opening a plan: source, rows and VAE, and what the plan left to the machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from latentstore.batch_size import fastest_batch_size
from latentstore.garbage import collection_paused
from latentstore.pictures import PictureReader
from latentstore.plan import BuildPlan, PlannedRows, plan_rows
from latentstore.safe_compute import as_planned

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


def opened(plan: BuildPlan, known: Mapping[str, Any] | None) -> OpenedPlan:
    """Open a plan; ``known`` is the plan that its folder holds the result or the beginning of, as JSON.

    A batch size that is to be found is that of ``known`` where there is one, and measured where there is none.
    """
    plan = with_threads(plan, known)
    with as_planned(plan):
        source = plan.source.open()
        rows = plan_rows(plan, source)
        vae = plan.vae.load(device=plan.device, dtype=plan.dtype)
        if plan.find_batch_size:
            size = known.get("batch_size") if known is not None else None
            size = size if isinstance(size, int) else fastest_batch_size(PictureReader(plan, source, rows), vae)
            plan = replace(plan, batch_size=size, find_batch_size=False)
    return OpenedPlan(plan, source, rows, vae, plan.fingerprint(source, rows, vae.identity))
