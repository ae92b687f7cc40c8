"""What tests are fed: hypothesis strategies for shards of any shape, and the example of FORMAT.md.

Shared by several test files: `pythonpath = ["tests"]` in pyproject.toml makes `from strategies import ...` work.
"""

from __future__ import annotations

import datetime as dt
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import strategies as st

import latentstore
from latentstore.containers.interface import ShardSchema
from latentstore.records import LatentRecord

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMAT = Path(latentstore.__file__).with_name("FORMAT.md")
_FLOATS: dict[str, tuple[type[np.unsignedinteger[Any]], int]] = {
    "float16": (np.uint16, 0x7C00),
    "float32": (np.uint32, 0x7F80_0000),
}
"""Of each number format: the integers of its width, and the bits of infinity."""

TEXTS = st.one_of(
    st.sampled_from(["", "a\nb", "scènes/été 🛰️", "ß/\t", "\x00", " ", "ident'with\"quotes", "\u202eabc", "日本"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
)


def example_text() -> str:
    """The JSON block of FORMAT.md."""
    (found,) = re.findall(r"^```json\n(.*?)^```$", FORMAT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return str(found)


def example() -> dict[str, Any]:
    """The manifest in FORMAT.md as plain JSON, new at each call."""
    found: dict[str, Any] = json.loads(example_text())
    return found


Path_ = tuple[str | int, ...]


def leaves(value: Any, path: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    """Every (path, value) below which there is nothing."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    below = list(inner)
    if not below:
        yield path, value
    for key, item in below:
        yield from leaves(item, (*path, key))


def in_words(path: Path_) -> str:
    """The path as errors write it: ``splits.train.shards[0].rows``."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def replaced(data: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    """The same JSON, changed in place at this path."""
    inner: Any = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return data


@st.composite
def latents(draw: st.DrawFn, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """Finite numbers with any bits: subnormals, -0.0, the largest; (N, C, h, w) in this dtype."""
    if dtype == "uint8":
        bytes_ = (
            draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape))) if math.prod(shape) < 64 else None
        )
        found = np.frombuffer(bytes_, np.uint8) if bytes_ is not None else np.arange(math.prod(shape)) % 256
        return np.maximum(found, 1).astype(np.uint8).reshape(shape)
    bits, infinity = _FLOATS[dtype]
    width = np.iinfo(bits).bits
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    raw = random.integers(0, 2**width, size=shape, dtype=np.uint64).astype(bits)
    special = draw(st.lists(st.integers(0, 2**width - 1), max_size=4))
    always = [0, 1 << (width - 1), 1, infinity - 1, (infinity - 1) | (1 << (width - 1))]
    chosen = np.array([*always, *special], dtype=np.uint64).astype(bits)[: math.prod(shape)]
    raw.reshape(-1)[: len(chosen)] = chosen
    raw[(raw & infinity) == infinity] = 0  # infinities and NaN
    return raw.view(dtype)


_INTEGERS = st.integers(-(2**63), 2**63 - 1)
_TIMES = st.datetimes(dt.datetime(1970, 1, 2), dt.datetime(2100, 1, 1), timezones=st.just(dt.timezone.utc))  # noqa: DTZ001 (hypothesis wants it so)

FURTHER: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "caption": ({"dtype": "string", "_type": "Value"}, TEXTS),
    "gsd": ({"dtype": "float64", "_type": "Value"}, st.floats(allow_nan=False)),
    "cloudy": ({"dtype": "bool", "_type": "Value"}, st.booleans()),
    "taken": ({"dtype": "timestamp[us, tz=UTC]", "_type": "Value"}, _TIMES),
    "split_of_paper": ({"names": ["a", "b"], "_type": "ClassLabel"}, st.integers(0, 1)),
    "raw": ({"dtype": "binary", "_type": "Value"}, st.binary(max_size=6)),
    "boxes": (
        {"feature": {"feature": {"dtype": "int64", "_type": "Value"}, "_type": "List"}, "_type": "List"},
        st.lists(st.lists(_INTEGERS, max_size=3), max_size=3),
    ),
    "place": (
        {"name": {"dtype": "string", "_type": "Value"}, "at": [{"dtype": "float64", "_type": "Value"}]},
        st.fixed_dictionaries(
            {"name": st.none() | TEXTS, "at": st.none() | st.lists(st.floats(allow_nan=False), max_size=2)}
        ),
    ),
}
"""Further columns of a source: feature and values."""

SHAPES = st.sampled_from([(1, 1, 1), (16, 1, 125), (3, 2, 2), (4, 8, 8), (2, 1, 3), (1, 7, 1)])


@st.composite
def schemas(draw: st.DrawFn) -> ShardSchema:
    """Columns of a shard."""
    further = draw(st.lists(st.sampled_from(sorted(FURTHER)), unique=True, max_size=4))
    return ShardSchema(
        latent_shape=draw(SHAPES),
        dtype=draw(st.sampled_from(["float16", "float32", "uint8"])),
        class_names=draw(st.none() | st.lists(TEXTS, min_size=1, max_size=3, unique=True).map(tuple)),
        metrics=tuple(draw(st.lists(st.sampled_from(["psnr", "ssim", "mae"]), unique=True, max_size=3))),
        features={name: FURTHER[name][0] for name in further},
        thumbnail=draw(st.booleans()),
    )


@st.composite
def shards(draw: st.DrawFn) -> tuple[ShardSchema, list[LatentRecord]]:
    """Columns, and up to nine rows."""
    schema = draw(schemas())
    rows = draw(st.integers(0, 9))
    numbers = draw(latents((rows, *schema.latent_shape), schema.dtype))
    labels = st.integers(0, len(schema.class_names) - 1) | st.none() if schema.class_names else st.none()
    scores = st.floats(width=32) | st.just(math.nan)
    return schema, [
        LatentRecord(
            id=draw(TEXTS),
            latent=latent,
            label=draw(labels),
            height=draw(st.integers(1, 2**31 - 1)),
            width=draw(st.integers(1, 2**31 - 1)),
            source_path=draw(TEXTS),
            source_sha256=draw(st.sampled_from(["0" * 64, "f" * 64])),
            source_bytes=draw(st.integers(0, 2**63 - 1)),
            scores={name: draw(scores) for name in schema.metrics},
            metadata={name: draw(st.none() | FURTHER[name][1]) for name in schema.features},
            thumbnail=draw(st.binary(max_size=9) | st.just(bytes(range(256)) * 3)) if schema.thumbnail else None,
        )
        for latent in numbers
    ]
