"""Small datasets with columns of any Arrow type, as folders that the Hub's reader opens."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image
from scenes import smooth_picture

from latentstore import SourceRow
from latentstore.sources.table import hub_source

ROWS = 3


def png(seed: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(smooth_picture(16, 16, seed)).save(file, "PNG")
    return file.getvalue()


def column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    """Values of any type, those of an extension, of a union and of runs too."""
    if pa.types.is_union(kind):
        which, held = pa.array([0] * len(values), pa.int8()), [pa.array(values, kind.field(0).type)]
        if kind.mode == "sparse":
            return pa.UnionArray.from_sparse(which, held)
        return pa.UnionArray.from_dense(which, pa.array(range(len(values)), pa.int32()), held)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))
    if pa.types.is_run_end_encoded(kind):
        import pyarrow.compute as pc

        return pc.run_end_encode(pa.array(values, kind.value_type))
    return pa.array(values, kind)


def arrow_source(folder: Path, columns: dict[str, pa.Array], **options: Any) -> SourceRow:
    """Three pictures with these columns in an Arrow file, which keeps every type as it is; Parquet does not."""
    folder.mkdir(parents=True)
    table = pa.table({"image": pa.array([png(row) for row in range(ROWS)], pa.binary()), **columns})
    with pa.ipc.new_stream(str(folder / "train-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    return hub_source(str(folder)).at(str(folder), image="image", **options)
