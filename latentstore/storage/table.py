"""The storages, by name."""

from __future__ import annotations

from latentstore.named_table import NamedTable
from latentstore.storage import floating, int8
from latentstore.storage.interface import StorageRow

STORAGES = NamedTable(
    "storage",
    [
        StorageRow("float16", 16, "float16", "rounded to half precision; the default", floating.open_float16),
        StorageRow("float32", 32, "float32", "exactly what the encoder gave", floating.open_float32),
        StorageRow(
            "int8", 8, "uint8", "multiples of one step a channel, one byte each", int8.open_int8, quantised=True
        ),
    ],
)
