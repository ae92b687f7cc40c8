"""A scalar column of many rows, kept as compactly as Arrow keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from latentstore.containers.arrow_numbers import float_values

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

ROWS_AT_ONCE = 1024
"""Rows whose values are Python objects at the same time while a column is gone through."""
CHUNK_BYTES = 1 << 30
"""Of one Arrow array, whose text may have 2 GiB at most."""


class Column(Sequence[Any]):
    """Values that become Python objects when they are looked at; None where there is none.

    A list of a hundred million texts would need some ten times the memory.
    """

    def __init__(self, values: pa.ChunkedArray) -> None:
        self._values = values

    @classmethod
    def of_array(cls, array: pa.Array) -> Column:
        """The values of an Arrow array."""
        import pyarrow as pa

        return cls(pa.chunked_array([array]))

    @classmethod
    def repeated(cls, text: str, count: int) -> Column:
        """One text, so many times."""
        import pyarrow as pa

        return cls.of_array(pa.repeat(pa.scalar(text, pa.string()), count))

    @classmethod
    def counted(cls, count: int) -> Column:
        """The integers from 0 to before ``count``."""
        import pyarrow as pa

        return cls.of_array(pa.Array.from_buffers(pa.int64(), count, [None, pa.py_buffer(np.arange(count))]))

    @classmethod
    def joined(cls, columns: Iterable[Column]) -> Column:
        """Columns of one type, at least one, one after another.

        In one piece, so that the bytes that are written of them do not depend on how many they were.
        """
        import pyarrow as pa

        parts = [column._values for column in columns]  # noqa: SLF001 (the same class)
        chunks = [chunk for part in parts for chunk in part.chunks]
        return cls(pa.chunked_array(_in_few_pieces(chunks, CHUNK_BYTES), parts[0].type))

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        for start in range(0, len(self), ROWS_AT_ONCE):
            yield from self._values.slice(start, ROWS_AT_ONCE).to_pylist()

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> Column: ...

    def __getitem__(self, place: int | slice) -> Any:
        """One value, or neighbouring ones as a column."""
        if isinstance(place, slice):
            start, stop, step = place.indices(len(self))
            if step != 1:
                message = f"a column is cut into neighbouring rows, not with a step of {step}"
                raise ValueError(message)
            return Column(self._values.slice(start, max(0, stop - start)))
        return self._values[place].as_py()

    def __repr__(self) -> str:
        return f"Column({len(self)} of {self._values.type})"

    @property
    def nbytes(self) -> int:
        """What it takes."""
        return int(self._values.nbytes)

    def numbers(self) -> NDArray[np.float64]:
        """A column of numbers, (N,) float64; NaN where there is none."""
        parts = [float_values(chunk) for chunk in self._values.chunks]
        return np.concatenate([np.empty(0), *parts])

    def arrow(self, kind: pa.DataType) -> pa.ChunkedArray:
        """As Arrow has it, of this type."""
        return self._values if self._values.type == kind else self._values.cast(kind)


def give_back_memory() -> None:
    """Have the system take back what Arrow has freed and kept for later: tens of megabytes after writing shards."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()


def _in_few_pieces(chunks: Sequence[pa.Array], limit: int) -> list[pa.Array]:
    """The same values in as few arrays as ``limit`` bytes of each allow.

    Outside of Arrow's own pool, which would keep what many small pieces took: twice as much stayed resident.
    """
    import pyarrow as pa

    pool = pa.system_memory_pool()
    groups: list[list[pa.Array]] = []
    room = 0
    for chunk in chunks:
        if not groups or chunk.nbytes > room:
            groups.append([])
            room = limit
        groups[-1].append(chunk)
        room -= chunk.nbytes
    return [group[0] if len(group) == 1 else pa.concat_arrays(group, pool) for group in groups]


def numbers_of(values: Sequence[Any]) -> NDArray[np.float64]:
    """A column of numbers, in whatever it is kept, as (N,) float64; NaN where there is none."""
    if isinstance(values, Column):
        return values.numbers()
    return np.array([np.nan if value is None else value for value in values], np.float64)
