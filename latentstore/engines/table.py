"""The engines, by name."""

from __future__ import annotations

from latentstore.engines import local, ray, torchrun
from latentstore.engines.interface import EngineRow
from latentstore.named_table import NamedTable

ENGINES = NamedTable(
    "engine",
    [
        EngineRow("local", "this process, or several on this machine: one for each GPU; the default", local.run),
        EngineRow(
            "torchrun",
            "processes that torchrun or Slurm started, on machines that share a folder",
            torchrun.run,
            placed=True,
        ),
        EngineRow(
            "ray",
            "actors on the machines of the Ray cluster that is named, which share a folder, or here where none is",
            ray.run,
            extra="ray",
            clusters=True,
        ),
    ],
)
