"""Keys gone through row by row: what they say together is what a dictionary of all of them says."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from latentstore.duplicates import find_duplicates
from latentstore.manifest import DuplicateGroup, Duplicates
from latentstore.repeats import may_recur, sum_once

KEYS = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", "g", "h"]), max_size=20)


class Colliding(str):
    """A name whose hash every other one has too."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 7


@given(keys=KEYS, collide=st.booleans(), data=st.data())
def test_values_of_equal_keys_count_once_and_it_is_the_last(
    keys: list[str], collide: bool, data: st.DataObject
) -> None:
    names = [Colliding(key) if collide else key for key in keys]
    values = data.draw(st.lists(st.integers(0, 9), min_size=len(keys), max_size=len(keys)))
    assert sum_once(lambda: iter(names), values, len(names)) == sum(dict(zip(names, values, strict=True)).values())


def test_a_key_recurs_where_other_rows_lie_between() -> None:
    keys = ["a", "a", "b", "c", "b", "d"]
    assert may_recur(lambda: iter(keys), len(keys)).tolist() == [False, False, True, False, True, False]
    assert may_recur(lambda: iter([]), 0).tolist() == []


def test_a_group_recurs_where_it_has_several_keys() -> None:
    keys, groups = ["a1", "a2", "b", "b", "a3"], ["a", "a", "b", "b", "a"]
    assert may_recur(lambda: iter(keys), 5, lambda: iter(groups)).tolist() == [True, True, False, False, True]


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["train", "test"]),
        st.sampled_from(["a@r0c0", "a@r0c1", "b@r0c0", "c@r0c0", "c@r0c1", "d@r0c0"]),
        st.sampled_from(["0", "1", "2"]),
        st.none() | st.integers(0, 2),
    ),
    max_size=20,
)


@given(rows=ROWS, tiled=st.booleans())
def test_duplicates_are_those_that_a_dictionary_of_all_pictures_finds(
    rows: list[tuple[str, str, str, int | None]], tiled: bool
) -> None:
    split, names, sha256, label = ([*column] for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    index = {"id": names, "split": split, "source_sha256": sha256, "label": label}
    if tiled:
        index["tile_row"] = [0] * len(names)
    seen: dict[str, dict[tuple[str, str], int | None]] = {}
    for part, name, digest, number in rows:
        seen.setdefault(digest, {})[part, name.split("@")[0] if tiled else name] = number
    groups = {digest: pictures for digest, pictures in seen.items() if len(pictures) > 1}
    across = {digest for digest, pictures in groups.items() if len({part for part, _ in pictures}) > 1}
    shown = sorted(groups, key=lambda digest: (digest not in across, min(groups[digest])))
    assert find_duplicates(index) == Duplicates(
        groups=len(groups),
        pictures=sum(map(len, groups.values())),
        across_splits=len(across),
        across_classes=sum(len(set(pictures.values())) > 1 for pictures in groups.values()),
        examples=tuple(
            DuplicateGroup(
                digest,
                tuple(name for _, name in sorted(groups[digest])),
                tuple(part for part, _ in sorted(groups[digest])),
            )
            for digest in shown
        ),
    )
