from __future__ import annotations

import inspect
import pickle
import re

import pytest

from latentstore import errors
from latentstore.errors import LatentStoreError, ManifestError, RequestError, UnsupportedVersionError

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


def drawn() -> dict[str, str]:
    """Each error and its parent in the tree of the module's docstring."""
    parents: dict[str, str] = {}
    above: dict[int, str] = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"^([ │├└─]*)([A-Z]\w+Error)\s", line):
            depth = len(found[1])
            above = {level: name for level, name in above.items() if level < depth} | {depth: found[2]}
            shallower = [level for level in above if level < depth]
            parents[found[2]] = above[max(shallower)] if shallower else "Exception"
    return parents


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    assert drawn() == {kind.__name__: kind.__bases__[0].__name__ for kind in ALL}


@pytest.mark.parametrize("kind", ALL)
def test_every_error_has_one_base_and_a_sentence_that_says_when(kind: type[Exception]) -> None:
    assert issubclass(kind, LatentStoreError)
    assert inspect.getdoc(kind)


@pytest.mark.parametrize("kind", ALL)
def test_errors_of_requests_are_value_errors_and_others_are_not(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError) == issubclass(kind, RequestError)


@pytest.mark.parametrize("kind", ALL)
def test_every_error_survives_the_way_out_of_a_worker_process(kind: type[Exception]) -> None:
    error = pickle.loads(pickle.dumps(kind("a sentence")))  # noqa: S301 (our own bytes)
    assert type(error) is kind
    assert str(error) == str(kind("a sentence"))


def test_the_path_of_a_field_grows_on_the_way_up_and_survives_a_worker_process() -> None:
    error = ManifestError("is missing", field="rows").inside("[0]").inside("shards").inside("train").inside("splits")
    assert str(error) == "manifest field 'splits.train.shards[0].rows': is missing"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301 (our own bytes)


def test_the_way_up_keeps_the_kind_of_error() -> None:
    assert isinstance(UnsupportedVersionError("too new", field="format_version").inside("x"), UnsupportedVersionError)


def test_an_error_of_the_whole_manifest_names_no_field() -> None:
    assert str(ManifestError("is not JSON")) == "manifest: is not JSON"
