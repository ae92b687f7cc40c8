"""What the result of a conversion is to be, in full; and what cannot be asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from latentstore.containers.interface import ContainerRow
from latentstore.errors import NotSealedError, PlanMismatchError, RequestError
from latentstore.hashing import sha256_of
from latentstore.manifest import FILE_NAME, Manifest, StorageInfo
from latentstore.manifest.names import is_config_name
from latentstore.plan import LARGEST_STEP, MAX_PSNR_DROP
from latentstore.storage.interface import StorageRow
from latentstore.storage.table import STORAGES

if TYPE_CHECKING:
    from latentstore.store import LatentStore

AUTO: Literal["auto"] = "auto"
DEFAULT_STEP = 1 / 16


@dataclass(frozen=True)
class Target:
    """What the result is to be."""

    config: str
    container: ContainerRow
    layout: str
    storage: StorageRow | None
    """None: to be chosen."""
    step: float | None
    """None where the storage is not quantised, is to be chosen, or keeps its steps."""
    max_psnr_drop: float | None
    calibration: int
    same_storage: bool
    """Whether storage and steps stay what they are, so that the stored numbers do too."""
    manifest_sha256: str
    """Of the manifest it is made from."""

    @property
    def settled(self) -> bool:
        """Whether storage and steps are known without looking at the numbers."""
        return self.storage is not None and self.step is None

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must agree for two conversions to be the same, as plain JSON."""
        return {
            "converted_from": self.manifest_sha256,
            "config": self.config,
            "container": self.container.name,
            "layout": self.layout,
            "storage": AUTO if self.storage is None else self.storage.name,
            "step": self.step,
            "max_psnr_drop": self.max_psnr_drop,
            "calibration": None if self.settled else self.calibration,
        }


def target_of(
    store: LatentStore,
    *,
    container: ContainerRow | None,
    storage: StorageRow | Literal["auto"] | None,
    layout: str | None,
    config: str,
    step: float | None,
    max_psnr_drop: float | None,
    calibration: int,
) -> Target:
    """What was asked for, with what stays as it is; RequestError where it cannot be done or changes nothing."""
    before = store.manifest.storage
    row = storage if isinstance(storage, StorageRow) else None if storage == AUTO else STORAGES[before.name]
    same = row is not None and row.name == before.name and step in (None, before.step_sigma)
    _refuse_numbers(step, max_psnr_drop, calibration)
    _refuse_storage(store, row, step, max_psnr_drop, same=same)
    box = container or store.container
    target = Target(
        config=_config(config or store.manifest.config),
        container=box,
        layout=_layout(box, layout, before.layout),
        storage=row,
        step=(step or DEFAULT_STEP) if row is not None and row.quantised and not same else None,
        max_psnr_drop=MAX_PSNR_DROP if row is None and max_psnr_drop is None else max_psnr_drop,
        calibration=calibration,
        same_storage=same,
        manifest_sha256=sha256_of(store.folder / FILE_NAME),
    )
    if same and (target.container.name, target.layout) == (before.container, before.layout):
        raise RequestError(
            f"{store.folder} already is {before.name} in {before.container}, layout {before.layout}: name another "
            "storage, container or layout."
        )
    return target


def finished_before(store: LatentStore, target: Target, folder: Path, measure: bool | None) -> Manifest | None:
    """The manifest, if the folder already holds this very conversion; RequestError for anything else that is sealed."""
    if folder.resolve() == store.folder.resolve():
        raise RequestError(f"{folder} would be written over itself: choose another --out, or another name with --name.")
    try:
        found = Manifest.read(folder)
    except NotSealedError:
        return None
    last = found.storage.converted[-1] if found.storage.converted else None
    if last is None or last.manifest_sha256 != target.manifest_sha256 or not _is_target(found.storage, target):
        message = f"{folder} already holds another dataset: choose another --out or --name, or remove that folder."
        raise PlanMismatchError(message)
    if measure is not None and not last.lossless and last.measured != measure:
        state = "measured again" if last.measured else "not measured again"
        raise PlanMismatchError(
            f"{folder} already holds this conversion, {state}: choose another --out or --name, or remove that folder."
        )
    return found


def _is_target(found: StorageInfo, target: Target) -> bool:
    if (found.container, found.layout) != (target.container.name, target.layout):
        return False
    if target.storage is None:
        return found.budget_db == target.max_psnr_drop and found.calibration is not None
    step = found.step_sigma if target.step is not None else None
    return (found.name, step) == (target.storage.name, target.step)


def _refuse_numbers(step: float | None, max_psnr_drop: float | None, calibration: int) -> None:
    if step is not None and not 0 < step <= LARGEST_STEP:
        raise RequestError(f"Expected a step above 0 and up to {LARGEST_STEP:g} standard deviations, found {step:g}.")
    if max_psnr_drop is not None and not 0 <= max_psnr_drop < math.inf:
        raise RequestError(f"Expected a max_psnr_drop of 0 dB or more, found {max_psnr_drop:g}.")
    if calibration < 1:
        raise RequestError(f"Expected calibration of 1 or more, found {calibration}.")


def _refuse_storage(
    store: LatentStore, row: StorageRow | None, step: float | None, max_psnr_drop: float | None, *, same: bool
) -> None:
    """What goes with one storage and not with another."""
    before = store.manifest.storage
    if row is None and STORAGES[before.name].quantised:
        raise RequestError(
            f"{store.folder} is stored in {before.name} already, and the unrounded latents are gone: choose larger "
            "steps (--step) or name a storage instead of auto."
        )
    if step is not None and (row is None or not row.quantised):
        name = AUTO if row is None else row.name
        raise RequestError(f"A step goes with a quantised storage such as int8, found {name}.")
    if max_psnr_drop is not None and same:
        raise RequestError("max_psnr_drop goes with a storage that rounds: name one, or leave it out.")


def _config(name: str) -> str:
    if not is_config_name(name):
        raise RequestError(
            f"Config name {name!r} cannot be used on the Hub: expected letters, digits, '-', '_' and '.', "
            "and not 'data'; choose one with --name."
        )
    return name


def _layout(container: ContainerRow, asked: str | None, before: str) -> str:
    """The layout that was asked for; else the present one, where the container has it, or the container's first."""
    if not asked:
        return before if before in container.layouts else container.layouts[0]
    if asked not in container.layouts:
        raise RequestError(
            f"Container {container.name!r} has no layout {asked!r}; choose from {', '.join(container.layouts)}."
        )
    return asked
