"""What every test may rely on: no network, no caches of the user's, and a few small datasets built once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

# Before anything imports huggingface_hub or datasets: both freeze these at import.
_CACHE = tempfile.mkdtemp(prefix="latentstore-tests-")
os.environ.update(
    HF_HOME=_CACHE,
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    HF_UPDATE_DOWNLOAD_COUNTS="0",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    HF_HUB_DISABLE_UPDATE_CHECK="1",
)

import pytest
from hypothesis import HealthCheck, settings

# Two test processes share two cores, so a deadline would measure the neighbour.
settings.register_profile(
    "latentstore", deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
settings.load_profile("latentstore")


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one sealed config ``synthetic-pool8``: 30 drawn scenes of 40x40, 3 shards, layout compact."""
    from scenes import build_scenes

    out = tmp_path_factory.mktemp("drawn")
    build_scenes(out)
    return out


@pytest.fixture(scope="session")
def drawn_fast(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same scenes in layout fast."""
    from scenes import build_scenes

    out = tmp_path_factory.mktemp("drawn-fast")
    build_scenes(out, layout="fast")
    return out
