"""latentstore: publish image datasets as latents, with proof of what was lost, and train on them at memory speed.

Rows of the tables (``VAES``, ``SOURCES``, ...) are what the functions take; a row of your own works like any of them.

A name is imported when it is first used: whoever trains on latents does not wait for what builds and publishes them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from latentstore.augment import cutmix as cutmix
    from latentstore.augment import mixup as mixup
    from latentstore.build import build as build
    from latentstore.build_profile import BuildProfile as BuildProfile
    from latentstore.build_progress import BuildProgress as BuildProgress
    from latentstore.card import CardChoices as CardChoices
    from latentstore.checks.table import CHECKS as CHECKS
    from latentstore.comparison.compare import compare as compare
    from latentstore.comparison.protocols import PROTOCOLS as PROTOCOLS
    from latentstore.comparison.result import Comparison as Comparison
    from latentstore.containers.table import CONTAINERS as CONTAINERS
    from latentstore.conversion.convert import convert as convert
    from latentstore.conversion.progress import ConvertProgress as ConvertProgress
    from latentstore.engines.table import ENGINES as ENGINES
    from latentstore.errors import LatentStoreError as LatentStoreError
    from latentstore.load import LatentDataset as LatentDataset
    from latentstore.load import load_latents as load_latents
    from latentstore.manifest import Manifest as Manifest
    from latentstore.metrics.table import METRICS as METRICS
    from latentstore.normalisation import flux2_to_taef2 as flux2_to_taef2
    from latentstore.normalisation import taef2_to_flux2 as taef2_to_flux2
    from latentstore.opening import open_store as open_store
    from latentstore.pixels import Preparation as Preparation
    from latentstore.plan import BuildPlan as BuildPlan
    from latentstore.publishing.drop import drop as drop
    from latentstore.publishing.publish import publish as publish
    from latentstore.publishing.pull import PullReport as PullReport
    from latentstore.publishing.pull import pull as pull
    from latentstore.publishing.records import PublishReport as PublishReport
    from latentstore.sources.interface import SourceRow as SourceRow
    from latentstore.sources.table import SOURCES as SOURCES
    from latentstore.sources.table import folder_source as folder_source
    from latentstore.sources.table import hub_source as hub_source
    from latentstore.status import BuildStatus as BuildStatus
    from latentstore.status import build_status as build_status
    from latentstore.storage.table import STORAGES as STORAGES
    from latentstore.store import LatentStore as LatentStore
    from latentstore.vaes.interface import VaeRow as VaeRow
    from latentstore.vaes.table import VAES as VAES
    from latentstore.vaes.table import kl_checkpoint as kl_checkpoint
    from latentstore.verify import VerifyReport as VerifyReport
    from latentstore.verify import verify as verify
    from latentstore.version import __version__ as __version__

_HOMES = {
    "cutmix": "latentstore.augment",
    "mixup": "latentstore.augment",
    "build": "latentstore.build",
    "BuildProfile": "latentstore.build_profile",
    "BuildProgress": "latentstore.build_progress",
    "CardChoices": "latentstore.card",
    "CHECKS": "latentstore.checks.table",
    "compare": "latentstore.comparison.compare",
    "PROTOCOLS": "latentstore.comparison.protocols",
    "Comparison": "latentstore.comparison.result",
    "CONTAINERS": "latentstore.containers.table",
    "convert": "latentstore.conversion.convert",
    "ConvertProgress": "latentstore.conversion.progress",
    "ENGINES": "latentstore.engines.table",
    "LatentStoreError": "latentstore.errors",
    "LatentDataset": "latentstore.load",
    "load_latents": "latentstore.load",
    "Manifest": "latentstore.manifest",
    "METRICS": "latentstore.metrics.table",
    "flux2_to_taef2": "latentstore.normalisation",
    "taef2_to_flux2": "latentstore.normalisation",
    "open_store": "latentstore.opening",
    "Preparation": "latentstore.pixels",
    "BuildPlan": "latentstore.plan",
    "drop": "latentstore.publishing.drop",
    "publish": "latentstore.publishing.publish",
    "PullReport": "latentstore.publishing.pull",
    "pull": "latentstore.publishing.pull",
    "PublishReport": "latentstore.publishing.records",
    "SourceRow": "latentstore.sources.interface",
    "SOURCES": "latentstore.sources.table",
    "folder_source": "latentstore.sources.table",
    "hub_source": "latentstore.sources.table",
    "BuildStatus": "latentstore.status",
    "build_status": "latentstore.status",
    "STORAGES": "latentstore.storage.table",
    "LatentStore": "latentstore.store",
    "VaeRow": "latentstore.vaes.interface",
    "VAES": "latentstore.vaes.table",
    "kl_checkpoint": "latentstore.vaes.table",
    "VerifyReport": "latentstore.verify",
    "verify": "latentstore.verify",
    "__version__": "latentstore.version",
}
"""The module that each public name comes from; the imports above say the same to type checkers."""

__all__ = [
    "CHECKS",
    "CONTAINERS",
    "ENGINES",
    "METRICS",
    "PROTOCOLS",
    "SOURCES",
    "STORAGES",
    "VAES",
    "BuildPlan",
    "BuildProfile",
    "BuildProgress",
    "BuildStatus",
    "CardChoices",
    "Comparison",
    "ConvertProgress",
    "LatentDataset",
    "LatentStore",
    "LatentStoreError",
    "Manifest",
    "Preparation",
    "PublishReport",
    "PullReport",
    "SourceRow",
    "VaeRow",
    "VerifyReport",
    "__version__",
    "build",
    "build_status",
    "compare",
    "convert",
    "cutmix",
    "drop",
    "flux2_to_taef2",
    "folder_source",
    "hub_source",
    "kl_checkpoint",
    "load_latents",
    "mixup",
    "open_store",
    "publish",
    "pull",
    "taef2_to_flux2",
    "verify",
]


def __getattr__(name: str) -> object:
    """A public name, or a module of the package, when it is first asked for."""
    if name in _HOMES:
        found = getattr(import_module(_HOMES[name]), name)
        globals()[name] = found
        return found
    if not name.startswith("_") and find_spec(f"{__name__}.{name}") is not None:
        return import_module(f"{__name__}.{name}")
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _PublicFace(ModuleType):
    """A package in which ``build`` and ``verify`` stay functions where the modules of that name are imported."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in _HOMES or not isinstance(value, ModuleType):  # Python hands a package each module it imports
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _PublicFace
