"""The numbers of others: complete, of known VAEs, and marked."""

from __future__ import annotations

import pytest

from latentstore import PROTOCOLS, SOURCES, VAES
from latentstore.comparison.published import CAVEATS, NUMBERS, PICTURES, PUBLISHED, published_for


@pytest.mark.parametrize("source", ["resisc45", "aid"])
def test_all_seven_vaes_are_there_under_the_names_of_the_table(source: str) -> None:
    rows = published_for(source)
    assert [row.vae for row in rows] == ["SD21", "SDXL", "SD35", "FLUX1", "FLUX2", "SANA", "Qwen"]
    assert all(name in VAES for row in rows for name in row.names)
    assert all(row.number(name) is not None for row in rows for name in ("psnr", "lpips", "fid"))
    assert source in SOURCES
    assert PICTURES[source] == sum((SOURCES[source].expected_images or {}).values())


def test_no_other_source_has_any() -> None:
    assert {row.source for row in PUBLISHED} == set(PICTURES) == {"resisc45", "aid"}
    assert published_for("synthetic") == ()


def test_every_mark_is_explained() -> None:
    columns = [column for protocol in PROTOCOLS.values() for column in protocol.columns]
    marks = {mark for column in columns for mark in column.marks}
    marks |= {mark for row in PUBLISHED for mark in (row.marks or {}).values()}
    assert marks | {"g"} == set(CAVEATS)
    assert all(set(row.marks or {}) <= set(NUMBERS) for row in PUBLISHED)


def test_the_numbers_are_the_study_s() -> None:
    by_name = {(row.source, row.vae): row for row in PUBLISHED}
    sdxl, flux2, sana = by_name["resisc45", "SDXL"], by_name["aid", "FLUX2"], by_name["aid", "SANA"]
    assert [sdxl.number(name) for name in NUMBERS] == [25.83, 0.692, 0.098, 4.98]
    assert [flux2.number(name) for name in NUMBERS] == [34.46, None, 0.022, 0.37]
    assert [sana.number(name) for name in NUMBERS] == [24.72, 0.606, 0.123, 5.01]
