"""The column types of a config, as `datasets` reads its shards, in the spelling of cards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latentstore.containers.arrow_features import feature_of_column
from latentstore.containers.table import CONTAINERS
from latentstore.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from latentstore.containers.interface import ShardSchema
    from latentstore.manifest import Manifest

LISTS = ("List", "LargeList", "Sequence")


def card_features(manifest: Manifest) -> list[dict[str, Any]]:
    """Name and type of each column that a plain ``load_dataset`` gives, in order; ManifestError where one has none."""
    types = CONTAINERS[manifest.storage.container].reader_features or _as_in_the_files
    found = []
    for name, feature in types(manifest.schema).items():
        try:
            found.append({"name": name, **_card_type(feature)})
        except (KeyError, TypeError, RecursionError) as error:
            message = f"of config {manifest.config!r}: expected a type in the words of `datasets` ({error!r})"
            raise ManifestError(message, field=f"columns.{name}") from error
    return found


def _as_in_the_files(schema: ShardSchema) -> Mapping[str, Any]:
    return {name: feature_of_column(schema, name) for name in schema.columns}


def _card_type(feature: Any) -> dict[str, Any]:
    """A type in the words of `datasets` as cards spell it."""
    if isinstance(feature, (list, tuple)) and len(feature) == 1:
        feature = {"feature": feature[0], "_type": "List"}
    if not isinstance(feature, dict):
        raise TypeError(f"found {type(feature).__name__}")
    kind = feature.get("_type")
    if kind is None:
        return {"struct": [{"name": name, **_card_type(part)} for name, part in feature.items()]}
    if kind == "Value":
        return {"dtype": feature["dtype"]}
    if kind == "ClassLabel":
        return {"dtype": {"class_label": {"names": {str(n): name for n, name in enumerate(feature["names"])}}}}
    if kind == "Array3D":
        return {"dtype": {"array3_d": {"shape": list(feature["shape"]), "dtype": feature["dtype"]}}}
    if kind == "Image":
        options = {name: value for name, value in feature.items() if name != "_type"}
        return {"dtype": {"image": options} if options else "image"}
    if kind not in LISTS:
        raise TypeError(f"found {kind!r}")
    length = {"length": feature["length"]} if feature.get("length", -1) not in (None, -1) else {}
    return {"large_list" if kind == "LargeList" else "list": _card_type(feature["feature"]), **length}
