"""The containers, by name."""

from __future__ import annotations

from latentstore.containers import parquet
from latentstore.containers.interface import ContainerRow
from latentstore.named_table import NamedTable

CONTAINERS = NamedTable(
    "container",
    [
        ContainerRow(
            name="parquet",
            suffix="parquet",
            layouts=(parquet.COMPACT, parquet.FAST),
            summary="read by datasets, pandas, polars, duckdb; the default",
            write=parquet.write_parquet,
            open=parquet.open_parquet,
            write_index=parquet.write_index,
            read_index=parquet.read_index,
        ),
    ],
)
