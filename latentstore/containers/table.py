"""The containers, by name."""

from __future__ import annotations

from latentstore.containers import parquet, parquet_ranges, webdataset
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
            index_arrays=parquet.index_arrays,
            open_ranges=parquet_ranges.open_parquet_ranges,
            rows_together=parquet.rows_together,
            builder="parquet",
            deviations=parquet.deviations,
        ),
        ContainerRow(
            name="webdataset",
            suffix="tar",
            layouts=(webdataset.FAST,),
            summary="tar shards, read by webdataset, datasets and tar",
            write=webdataset.write_webdataset,
            open=webdataset.open_webdataset,
            write_index=parquet.write_index,
            read_index=parquet.read_index,
            index_arrays=parquet.index_arrays,
            open_ranges=webdataset.open_webdataset_ranges,
            rows_together=webdataset.rows_together,
            builder="webdataset",
            reader_features=webdataset.reader_features,
            name_pattern="{split}-{index:06d}.{suffix}",
        ),
    ],
)
