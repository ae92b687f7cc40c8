"""The storages, by name."""

from __future__ import annotations

from latentstore.named_table import NamedTable
from latentstore.storage import floating
from latentstore.storage.interface import StorageRow

STORAGES = NamedTable(
    "storage",
    [
        StorageRow("float16", 16, "rounded to half precision; the default", floating.open_float16),
        StorageRow("float32", 32, "exactly what the encoder gave", floating.open_float32),
    ],
)
