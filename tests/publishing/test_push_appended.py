"""A dataset that was added to is published again: what only the old state needed goes, the card shows the new one."""

from __future__ import annotations

from pathlib import Path

import pytest
from appending import CONFIG, draw, hashes, plan
from publishing_words import LICENSED

from latentstore import append_sealing, build, load_latents, publish, pull, verify


def test_what_an_append_replaced_goes_and_its_own_index_and_preview_come(tmp_path: Path) -> None:
    photos, out, place = draw(tmp_path / "photos", range(6)), tmp_path / "out", tmp_path / "place"
    build(plan(photos), out)
    publish(out, place, choices=LICENSED)
    draw(photos, range(6, 9))
    (photos / "town" / "bad.png").write_bytes(b"no picture")
    build(plan(photos), out, append=True)
    report = publish(out, place)
    assert {f"{CONFIG}/preview-1.png", f"{CONFIG}/index-1.parquet", f"{CONFIG}/skipped.jsonl"} < set(report.sent)
    assert f"{CONFIG}/train-00000-of-00002.parquet" not in report.sent
    own = {name: sha256 for name, sha256 in hashes(out / CONFIG).items() if name != "manifest.json"}
    there = {name: sha256 for name, sha256 in hashes(place / CONFIG).items() if name != "manifest.json"}
    assert there == own
    assert f"({CONFIG}/preview-1.png)" in (place / "README.md").read_text(encoding="utf-8")
    assert verify(place, trust=True).ok
    pull(place, tmp_path / "back")
    assert hashes(tmp_path / "back" / CONFIG) == hashes(place / CONFIG)
    assert len(load_latents(tmp_path / "back")) == 9


def test_beside_an_append_that_is_not_finished_the_old_state_is_published_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out, place = draw(tmp_path / "photos", range(6)), tmp_path / "out", tmp_path / "place"
    (photos / "town" / "bad.png").write_bytes(b"no picture")
    build(plan(photos), out)
    old = hashes(out / CONFIG)
    draw(photos, range(6, 9))
    (photos / "town" / "worse.png").write_bytes(b"no picture")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("latentstore.manifest.Manifest.write", stop)
        with pytest.raises(KeyboardInterrupt):
            build(plan(photos), out, append=True)
    publish(out, place, choices=LICENSED)
    assert {name: sha256 for name, sha256 in hashes(place / CONFIG).items() if name != "manifest.json"} == {
        name: sha256 for name, sha256 in old.items() if name != "manifest.json"
    }
    with monkeypatch.context() as patched:
        patched.setattr(append_sealing, "tidy_append", stop)
        with pytest.raises(KeyboardInterrupt):
            build(plan(photos), out, append=True)
    publish(out, place)  # the list of skipped pictures in the folder still is the one before
    assert verify(place, trust=True).ok
    assert len((place / CONFIG / "skipped.jsonl").read_text(encoding="ascii").splitlines()) == 2
