"""What each column of the source is to us: the picture, its label, a further column, or nothing."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from latentstore.errors import RequestError, SourceError
from latentstore.named_table import unknown_name
from latentstore.sources.hub_images.loading import rows_in
from latentstore.sources.naming import spelled_twice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latentstore.sources.interface import Feature, SourceRow

OUR_COLUMNS = frozenset(
    {"id", "latent", "latent_std", "label", "height", "width", "source_path", "source_sha256", "source_bytes"}
    | {"latent_crc32", "thumbnail", "psnr", "ssim", "mae", "lpips", "lpips_vgg", "ssim_vaes4rs"}
    | {"split", "shard", "row", "tile_row", "tile_column", "view"}
)
"""Names that a further column of a source cannot keep."""

COLUMNS, DROP_COLUMNS = "columns", "drop_columns"
"""Source options that choose the further columns."""

_MEDIA = frozenset({"Image", "Audio", "Video", "Pdf", "Mesh", "Nifti", "BioSequence", "BioStructure"})
"""Types whose values may be paths, which `datasets` opens when a row is read: such a column is not read."""


@dataclass(frozen=True)
class Columns:
    """What each column of the source is to us."""

    image: str
    label: str | None
    further: Mapping[str, str]
    """Our name of each column that passes through, by the source's name."""
    features: Mapping[str, Feature]
    """The types of the further columns, by our name."""
    class_names: tuple[str, ...] | None = None
    classes: Mapping[Any, int] | None = None
    """Index of each label where the source has none of its own; None where its numbers are the index."""
    notes: list[str] = field(default_factory=list)

    def index(self, value: Any) -> int | None:
        """The class of a label as the source holds it; None where there is none."""
        if value is None or self.class_names is None:
            return None
        if self.classes is not None:
            return self.classes.get(value)
        return int(value) if value >= 0 else None


def columns_of(row: SourceRow, splits: Mapping[str, Any]) -> Columns:
    """The columns of these splits, which must have the same; SourceError where none is the picture."""
    types = _types(row, splits)
    image = _image_column(row, types)
    notes: list[str] = []
    unwanted = _unwanted(row, types, image)
    label = _label_column(row, {name: type_ for name, type_ in types.items() if name not in unwanted}, notes)
    class_names, classes = _classes(row, splits, types, label, notes)
    if class_names is None:
        label = None
    notes += spelled_twice(class_names or ())
    dropped = [name for name in types if name in unwanted]
    if dropped:
        notes.append(f"columns left out, as asked for: {', '.join(dropped)}")
    others = {name: type_ for name, type_ in types.items() if name not in {image, *dropped}}
    media = [name for name, type_ in others.items() if _kinds(type_) & _MEDIA or picture_fields(type_)]
    if media:
        notes.append(f"columns left out, because they hold media: {', '.join(media)}")
    kept = [name for name in types if name not in {image, label, *dropped, *media}]
    further = _renamed(kept, notes)
    features = {ours: types[name] for name, ours in further.items()}
    return Columns(image, label, further, features, class_names, classes, notes)


def _types(row: SourceRow, splits: Mapping[str, Any]) -> dict[str, Any]:
    """The type of each column in the words of `datasets`; raises SourceError where the splits differ."""
    from datasets import Features

    found: dict[str, Any] = {}
    first = ""
    for name, dataset in splits.items():
        types = Features(dataset.features).to_dict()
        if first and types != found:
            raise SourceError(
                f"The splits {first!r} and {name!r} of {row.location!r} have different columns: {_listed(found)} "
                f"against {_listed(types)}; take those that agree with the source option splits=NAME."
            )
        found, first = types, name
    return found


def _kinds(type_: Any) -> set[str]:
    """The names of all types within a type."""
    if isinstance(type_, list):
        return set().union(*map(_kinds, type_))
    if not isinstance(type_, dict):
        return set()
    own = {type_["_type"]} if isinstance(type_.get("_type"), str) else set()
    return own.union(*map(_kinds, type_.values()))


def _listed(types: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} ({_told(type_)})" for name, type_ in types.items())


def _told(type_: Any) -> str:
    """A type in a word or two."""
    if not isinstance(type_, dict) or not isinstance(type_.get("_type"), str):
        return "struct" if isinstance(type_, dict) else "list"
    return str(type_.get("dtype") if type_["_type"] == "Value" else type_["_type"])


def picture_fields(type_: Any, *, alone: bool = True) -> frozenset[str]:
    """The fields of a struct that holds the file of a picture: ``bytes``, and ``path`` where it has one; else empty.

    So pandas, polars and dask write what `datasets` calls an Image. ``alone``: with further fields it is none.
    """
    held = _value_type(type_.get("bytes")) if isinstance(type_, dict) else ""
    path = _value_type(type_.get("path")) if isinstance(type_, dict) else ""
    if held not in {"binary", "large_binary"} and not (held == "null" and path in {"string", "large_string"}):
        return frozenset()
    fields = frozenset({"bytes", "path"} if path in {"string", "large_string", "null"} else {"bytes"})
    return fields if not alone or fields == set(type_) else frozenset()


def _value_type(type_: Any) -> str:
    is_value = isinstance(type_, dict) and type_.get("_type") == "Value"
    return str(type_["dtype"]) if is_value else ""


def _can_hold_pictures(type_: Any) -> bool:
    """Whether a column of this type is read as pictures if it is named."""
    kinds = {"Image", "binary", "large_binary", "list", "List", "Array3D"}
    return _told(type_) in kinds or bool(picture_fields(type_, alone=False))


def _image_column(row: SourceRow, types: Mapping[str, Any]) -> str:
    images = [name for name, type_ in types.items() if isinstance(type_, dict) and type_.get("_type") == "Image"]
    images = images or [name for name, type_ in types.items() if picture_fields(type_)]
    asked = row.options.get("image")
    wanted = "an Image, a struct of bytes and path, bytes, or lists of numbers"
    if asked is not None:
        if asked not in types:
            raise unknown_name(f"column in {row.location!r}", asked, types)
        if not _can_hold_pictures(types[asked]):
            held = ", ".join(types[asked]) if _told(types[asked]) == "struct" else ""
            found = _told(types[asked]) + (f" of {held}" if held else "")
            raise SourceError(
                f"The column {asked!r} of {row.location!r} holds no images but {found}; expected {wanted}."
            )
        return str(asked)
    if not images:
        able = [name for name, type_ in types.items() if _can_hold_pictures(type_)]
        ask = (
            f"if one of them holds images, name it with the source option image=NAME, of: {', '.join(able)}"
            if able
            else f"none can hold images, for which {wanted} was expected"
        )
        raise SourceError(f"{row.location!r} has no column of type Image; its columns are: {_listed(types)}; {ask}.")
    if len(images) > 1:
        listed = ", ".join(images)
        raise SourceError(f"{row.location!r} has several columns of images, {listed}; choose with image=NAME.")
    return images[0]


def _unwanted(row: SourceRow, types: Mapping[str, Any], image: str) -> set[str]:
    """The columns that ``drop_columns`` names, or that are neither picture nor label nor in ``columns``."""
    asked, dropped = (_names(row, option, types) for option in (COLUMNS, DROP_COLUMNS))
    if asked is not None and dropped is not None:
        raise RequestError("--columns and --drop-columns both choose the further columns: give one of them.")
    if image in (dropped or ()):
        raise RequestError(f"Column {image!r} of {row.location!r} holds the pictures, and cannot be left out.")
    if asked is None:
        return set(dropped or ())
    label = _label_column(row, types, [])
    return {name for name in types if name not in {image, label, *asked}}


def _names(row: SourceRow, option: str, types: Mapping[str, Any]) -> list[str] | None:
    """The source's names of the columns that an option lists (as a list, or with commas between); None without it."""
    listed = row.options.get(option)
    if listed is None:
        return None
    found = [name.strip() for name in listed.split(",") if name.strip()] if isinstance(listed, str) else list(listed)
    for place, name in enumerate(found):
        bare = name.removeprefix("source_")
        found[place] = bare if name not in types and bare in OUR_COLUMNS else name  # as it is called here
        if found[place] not in types:
            raise unknown_name(f"column in {row.location!r}", name, types)
    return found


def _label_column(row: SourceRow, types: Mapping[str, Any], notes: list[str]) -> str | None:
    asked = row.options.get("label")
    if asked is not None:
        if asked not in types:
            raise unknown_name(f"column in {row.location!r}", asked, types)
        return str(asked)
    if "label" in types:
        return "label"
    named = [name for name, type_ in types.items() if _told(type_) == "ClassLabel"]
    if len(named) > 1:
        notes.append(
            f"no labels were taken, because several columns have classes ({', '.join(named)}): "
            f"choose with the source option label=NAME, such as label={named[0]}"
        )
    return named[0] if len(named) == 1 else None


def _classes(
    row: SourceRow, splits: Mapping[str, Any], types: Mapping[str, Any], label: str | None, notes: list[str]
) -> tuple[tuple[str, ...] | None, dict[Any, int] | None]:
    """The names of the classes, and the index of each label where the source has no index of its own."""
    if label is None:
        return None, None
    kind = _told(types[label])
    if kind == "ClassLabel":
        names = tuple(types[label]["names"])
        _refuse_beyond(row, splits, label, names)
        return names, None
    numbers = re.fullmatch(r"u?int\d+", kind)
    if not numbers and kind not in {"string", "large_string"}:
        notes.append(f"column {label!r} is no single label but {kind}, so it is a further column")
        return None, None
    held = _values(row, splits, label) - {None}
    values = sorted(value for value in held if not numbers or value >= 0)
    if numbers:
        notes.append(f"column {label!r} of {row.location!r} holds numbers without names, so the numbers are the names")
    return tuple(str(value) for value in values), {value: index for index, value in enumerate(values)}


def _refuse_beyond(row: SourceRow, splits: Mapping[str, Any], label: str, names: tuple[str, ...]) -> None:
    """SourceError where a class number has no name. Those of a stream are only known when its pictures are read."""
    for split, dataset in splits.items():
        numbers = dataset.unique(label) if hasattr(dataset, "unique") else ()
        beyond = max((number for number in numbers if number is not None), default=-1)
        if beyond >= len(names):
            raise SourceError(
                f"Column {label!r} of split {split!r} of {row.location!r} holds the class number {beyond}, but its "
                f"{len(names)} classes are numbered 0 to {len(names) - 1}: mend the labels or the names in the source, "
                f"or leave the column out with --drop-columns {label}."
            )


def _values(row: SourceRow, splits: Mapping[str, Any], column: str) -> set[Any]:
    """Every value of the column in all splits; a stream is read once for it, without the other columns."""
    found: set[Any] = set()
    for dataset in splits.values():
        if hasattr(dataset, "unique"):
            found.update(dataset.unique(column))
        else:
            found.update(example[column] for example in rows_in(dataset.select_columns([column]), row.location))
    return found


def _renamed(names: list[str], notes: list[str]) -> dict[str, str]:
    """Our name of each further column."""
    ours: dict[str, str] = {}
    for name in names:
        new = name
        while new in OUR_COLUMNS or (new != name and new in names):
            new = f"source_{new}"
        if new != name:
            notes.append(f"column {name!r} is called {new!r} here, because {name!r} is one of our own columns")
        ours[name] = new
    return ours
