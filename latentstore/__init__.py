"""latentstore: publish image datasets as latents, with proof of what was lost, and train on them at memory speed.

Rows of the tables (``VAES``, ``SOURCES``, ...) are what the functions take; a row of your own works like any of them.
"""

from __future__ import annotations

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
