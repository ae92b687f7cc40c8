"""Sources that somebody made to be read by others: what they name elsewhere is neither opened nor asked for."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from latentstore_cli.main import main
from PIL import Image

from latentstore import folder_source, hub_source
from latentstore.errors import BadImageError, SourceError
from latentstore.image_decoding import read_open_picture
from latentstore.records import SkippedTile, Tile
from latentstore.sources.hub_images.own_files import ELSEWHERE, OUTSIDE, OwnFiles
from latentstore.sources.inside import LINK_OUT
from latentstore.sources.interface import SourceRow

# datasets leaves a metadata file open that it refuses
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SECRET = [200, 10, 10]


@pytest.fixture(autouse=True)
def _inside_the_machine(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
    for module in (datasets.config, huggingface_hub.constants):
        monkeypatch.setattr(module, "HF_HUB_OFFLINE", True)


def png(colour: list[int]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 4, 3), colour, np.uint8)).save(file, "PNG")
    return file.getvalue()


class Listener:
    """A server on 127.0.0.1 that gives the secret picture, and notes who asked for it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        asked = self.asked

        class Answers(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                asked.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", str(len(png(SECRET))))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(png(SECRET))

            do_HEAD = do_GET  # noqa: N815

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.server.shutdown()
    found.server.server_close()
    assert found.asked == []


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder beside the source, with pictures that nobody meant to publish."""
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "passport.png").write_bytes(png(SECRET))
    with zipfile.ZipFile(folder / "all.zip", "w") as archive:
        archive.writestr("passport.png", png(SECRET))
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


def read(row: SourceRow) -> list[Tile | SkippedTile]:
    """Every picture of a source; none of them is the secret one."""
    opened = row.open()
    found = [tile for split in opened.splits.values() for tile in split.read(range(len(split)))]
    assert not [tile for tile in found if isinstance(tile, Tile) and tile.pixels[0, 0].tolist() == SECRET]
    for split in opened.splits.values():
        if split.random_access:
            assert len(list(split.sizes())) == len(split)
        if hasattr(split, "held"):
            sums = [picture.sha256() for picture in split.held(range(len(split)))]
            assert [bool(one) for one in sums] == [isinstance(tile, Tile) for tile in found]
    return found


def source_at(root: Path, *, streaming: bool, **options: Any) -> SourceRow:
    return hub_source(str(root)).at(root, **options, **({"streaming": True} if streaming else {}))


def reasons(row: SourceRow) -> list[str]:
    return [tile.reason if isinstance(tile, SkippedTile) else "" for tile in read(row)]


def parquet(path: Path, named: list[str], **metadata: Any) -> None:
    """One good row, then rows that name their picture."""
    held = [{"bytes": png([1, 2, 3]), "path": "a.png"}, *({"bytes": None, "path": name} for name in named)]
    table = pa.table({"image": pa.array(held, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))})
    features = {"image": {"_type": "Image"}}
    info = {"huggingface": json.dumps({"info": {"features": features}, **metadata})}
    pq.write_table(table.replace_schema_metadata(info), path)


both = pytest.mark.parametrize("streaming", [False, True])
ROWS = {
    "an absolute path": ("{private}/passport.png", OUTSIDE),
    "a way up": ("../private/passport.png", OUTSIDE),
    "a way up from within": ("{root}/../private/passport.png", OUTSIDE),
    "a system file": ("/etc/hostname", OUTSIDE),
    "a file address": ("file://{private}/passport.png", ELSEWHERE),
    "a short file address": ("file:{private}/passport.png", ELSEWHERE),
    "a local address": ("local://{private}/passport.png", ELSEWHERE),
    "a web address": ("{url}/passport.png", ELSEWHERE),
    "a bucket": ("s3://bucket/passport.png", ELSEWHERE),
    "an archive elsewhere": ("zip://passport.png::{private}/all.zip", OUTSIDE),
    "an archive up": ("zip://passport.png::../private/all.zip", OUTSIDE),
    "an archive on the web": ("zip://passport.png::{url}/all.zip", ELSEWHERE),
    "a cache of the web": ("simplecache::{url}/passport.png", ELSEWHERE),
    "a reference": ("filecache://x::file://{private}/passport.png", ELSEWHERE),
    "another repository": ("hf://datasets/somebody/else@main/passport.png", ELSEWHERE),
    "a zero byte": ("a\0.png", OUTSIDE),
    "a link": ("link.png", LINK_OUT),
    "a folder behind a link": ("linked/passport.png", LINK_OUT),
}


@both
def test_a_row_that_names_a_file_elsewhere_is_skipped_with_its_reason(
    root: Path, private: Path, listener: Listener, streaming: bool
) -> None:
    (root / "link.png").symlink_to(private / "passport.png")
    (root / "linked").symlink_to(private)
    named = [name.format(private=private, root=root, url=listener.url) for name, _ in ROWS.values()]
    parquet(root / "train.parquet", named)
    found = reasons(source_at(root, streaming=streaming))
    assert dict(zip(ROWS, found[1:], strict=True)) == {what: reason for what, (_, reason) in ROWS.items()}
    assert found[0] == ""


@both
def test_a_row_may_name_what_lies_in_its_own_source(root: Path, streaming: bool) -> None:
    (root / "pictures").mkdir()
    (root / "pictures" / "1.png").write_bytes(png([5, 5, 5]))
    (root / "same.png").symlink_to("pictures/1.png")
    with zipfile.ZipFile(root / "more.zip", "w") as archive:
        archive.writestr("2.png", png([6, 6, 6]))
    named = ["pictures/1.png", f"{root}/pictures/1.png", "pictures/../pictures/1.png", "same.png"]
    named += [f"zip://2.png::{root}/more.zip", "zip://2.png::more.zip", "pictures/gone.png", "zip://9.png::more.zip"]
    parquet(root / "train.parquet", named)
    found = read(source_at(root, streaming=streaming))
    values = [int(tile.pixels[0, 0, 0]) if isinstance(tile, Tile) else tile.reason for tile in found]
    missing = ["cannot be read: No such file or directory"]
    missing += ["cannot be read: it is not in the source, or in a damaged archive"]
    assert values == [1, 5, 5, 5, 5, 6, 6, *missing]


def test_a_picture_is_read_from_its_own_repository_at_its_own_commit_only() -> None:
    files = OwnFiles("", "user/name", COMMIT)
    own = f"hf://datasets/user/name@{COMMIT}/data/1.png"
    assert files.place_of(own) == files.place_of("data/1.png") == own
    assert files.place_of(f"zip://1.png::hf://datasets/user/name@{COMMIT}/a.zip").endswith("/a.zip")
    others = ["hf://datasets/user/name@main/1.png", "hf://datasets/user/name/1.png", f"{own[:14]}user/name2@{COMMIT}/1"]
    others += [
        f"hf://datasets/user/name@{COMMIT}/../other@main/1.png",
        "hf://user/model/1.png",
        "https://example.org/1",
    ]
    for name in (*others, f"hf://buckets/user/name@{COMMIT}/1.png", f"x{own}", f"{own}\\..\\1.png"):
        with pytest.raises(BadImageError, match=ELSEWHERE):
            files.place_of(name)
    for name in ("../1.png", "/etc/hostname", "a/../../1.png"):
        with pytest.raises(BadImageError, match=OUTSIDE):
            files.place_of(name)


def test_a_downloaded_repository_may_have_the_links_of_the_hubs_cache(tmp_path: Path, private: Path) -> None:
    repository = tmp_path / "datasets--user--name"
    snapshot = repository / "snapshots" / COMMIT / "a"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / "1").write_bytes(png([7, 7, 7]))
    (snapshot / "1.png").symlink_to("../../../blobs/1")
    (snapshot / "2.png").symlink_to(private / "passport.png")
    for row in (folder_source(snapshot.parent), hub_source(str(snapshot.parent))):
        assert reasons(row) == ["", LINK_OUT]


CARDS: dict[str, str] = {
    "an absolute pattern": "data_files: '{private}/*.png'",
    "a file": "data_files: '{private}/passport.png'",
    "a pattern up": "data_files: '../private/*.png'",
    "a pattern within one split": "data_files:\n  - split: train\n    path: ['a/*.png', '../private/*.png']",
    "a file address": "data_files: 'file://{private}/*.png'",
    "a short file address": "data_files: 'file:{private}/*.png'",
    "a web address": "data_files: '{url}/passport.png'",
    "a bucket": "data_files: 's3://bucket/*.png'",
    "an archive elsewhere": "data_files: 'zip://*.png::{private}/all.zip'",
    "an archive on the web": "data_files: 'zip://*.png::{url}/all.zip'",
    "a cache of the web": "data_files: 'simplecache::{url}/passport.png'",
    "another repository": "data_files: 'hf://datasets/somebody/else@main/*.png'",
    "a folder up": "data_dir: ../private",
    "a folder elsewhere": "data_dir: '{private}'",
    "a link": "data_files: 'linked/*.png'",
    "a linked archive": "data_files: 'all.zip'",
}


@both
@pytest.mark.parametrize("card", CARDS)
@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_card_that_lists_files_elsewhere_is_not_followed(
    root: Path, private: Path, listener: Listener, name: str, card: str, streaming: bool
) -> None:
    (root / "a").mkdir()
    (root / "a" / "1.png").write_bytes(png([1, 1, 1]))
    (root / "linked").symlink_to(private)
    (root / "all.zip").symlink_to(private / "all.zip")
    text = CARDS[card].format(private=private, url=listener.url).replace("\n", "\n  ")
    yaml = f"configs:\n- config_name: default\n  {text}\n"
    (root / name).write_text(f"---\n{yaml}---\n" if name == "README.md" else yaml)
    with pytest.raises(SourceError, match=r"^\S+ (names|is a link).*: its list of files is not followed\.$"):
        source_at(root, streaming=streaming).open()


@pytest.mark.parametrize("pattern", ["/home/*/*.png", "../x/*.png", "https://example.org/1.png", "file:/etc/*.png"])
def test_nor_is_that_of_a_repository_on_the_hub(pattern: str) -> None:
    from datasets.data_files import DataFilesList

    files = OwnFiles("", "user/name")
    refused = pytest.raises(SourceError, match="its list of files is not followed")
    # suppressed as by `datasets`, which then looks into its cache
    with refused, files.resolving(), suppress(SourceError):
        DataFilesList.from_patterns([pattern], base_path=f"hf://datasets/user/name@{COMMIT}")
    with files.resolving(), pytest.raises(Exception, match="offline"):
        DataFilesList.from_patterns(["data/*.png"], base_path=f"hf://datasets/user/name@{COMMIT}")


def test_other_threads_resolve_what_they_like_meanwhile(root: Path, private: Path) -> None:
    from datasets.data_files import DataFilesList

    found: list[list[str]] = []
    with OwnFiles(str(root)).resolving():
        other = threading.Thread(target=lambda: found.append(DataFilesList.from_patterns([f"{private}/*.png"])))
        other.start()
        other.join()
    assert found == [[str(private / "passport.png")]]


@both
def test_metadata_of_an_image_folder_names_no_picture_elsewhere(
    root: Path, private: Path, listener: Listener, streaming: bool
) -> None:
    (root / "1.png").write_bytes(png([1, 1, 1]))
    for name in (str(private / "passport.png"), "../private/passport.png", f"{listener.url}/passport.png"):
        (root / "metadata.csv").write_text(f"file_name,text\n1.png,own\n{name},other\n")
        try:
            found = reasons(source_at(root, streaming=streaming))
        except SourceError as error:  # newer versions of datasets refuse the whole
            assert "file_name" in str(error)  # noqa: PT017
        else:
            assert found[1] in (OUTSIDE, ELSEWHERE)


@both
def test_further_columns_of_pictures_are_never_opened(root: Path, listener: Listener, streaming: bool) -> None:
    media: dict[str, Any] = {"image": {"_type": "Image"}, "second": {"_type": "Image"}}
    media |= {"many": {"_type": "List", "feature": {"_type": "Image"}}, "in": {"one": {"_type": "Image"}}}
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    bad = {"bytes": None, "path": f"{listener.url}/x.png"}
    table = pa.table(
        {
            "image": pa.array([{"bytes": png([1, 1, 1]), "path": "a.png"}], struct),
            "second": pa.array([bad], struct),
            "many": pa.array([[bad]], pa.list_(struct)),
            "in": pa.array([{"one": bad}], pa.struct([("one", struct)])),
        }
    )
    info = {"huggingface": json.dumps({"info": {"features": media}})}
    pq.write_table(table.replace_schema_metadata(info), root / "train.parquet")
    row = source_at(root, streaming=streaming, image="image")
    assert row.open().features == {}
    assert reasons(row) == [""]


def _climbing_split(root: Path, other: Path) -> None:
    (root / "dataset_dict.json").write_text(json.dumps({"splits": [f"../{other.name}"]}))


def _climbing_file(root: Path, other: Path) -> None:
    state = json.loads((root / "train" / "state.json").read_text())
    state["_data_files"] = [{"filename": f"../../{other.name}/{next(other.glob('*.arrow')).name}"}]
    (root / "train" / "state.json").write_text(json.dumps(state))


def _absolute_file(root: Path, other: Path) -> None:
    state = json.loads((root / "train" / "state.json").read_text())
    state["_data_files"] = [{"filename": str(next(other.glob("*.arrow")))}]
    (root / "train" / "state.json").write_text(json.dumps(state))


def _linked_file(root: Path, other: Path) -> None:
    own = next((root / "train").glob("*.arrow"))
    own.unlink()
    own.symlink_to(next(other.glob("*.arrow")))


@pytest.mark.parametrize("attack", [_climbing_split, _climbing_file, _absolute_file, _linked_file])
def test_a_saved_dataset_lists_no_files_elsewhere(tmp_path: Path, attack: Callable[[Path, Path], None]) -> None:
    def saved(colour: list[int]) -> datasets.Dataset:
        held = [{"bytes": png(colour), "path": "1.png"}]
        return datasets.Dataset.from_dict({"image": held}, features=datasets.Features(image=datasets.Image()))

    datasets.DatasetDict(train=saved([1, 1, 1])).save_to_disk(tmp_path / "source")
    saved(SECRET).save_to_disk(tmp_path / "mine")
    row = hub_source(str(tmp_path / "source"))
    assert reasons(row) == [""]
    attack(tmp_path / "source", tmp_path / "mine")
    with pytest.raises(SourceError, match="its list of files is not followed"):
        row.open()


def test_a_folder_inside_the_source_is_asked_for_by_a_path_inside_it(root: Path, private: Path) -> None:
    (root / "1.png").write_bytes(png([1, 1, 1]))
    for data_dir in ("../private", str(private), "a/../../private"):
        with pytest.raises(SourceError, match="is no folder inside"):
            hub_source(str(root), data_dir=data_dir).open()


def test_files_that_may_lead_to_files_elsewhere_are_refused(root: Path) -> None:
    (root / "data.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(SourceError, match=r"reads as hdf5, which may lead to files elsewhere: .* write it as Parquet"):
        hub_source(str(root)).open()


def test_a_picture_inside_an_archive_may_not_be_endless() -> None:
    class Endless(io.RawIOBase):
        asked = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 < size < 3 << 30
            self.asked += 1
            return png([1, 1, 1]) + bytes(65 << 20)

    with pytest.raises(BadImageError, match=r"a file of 68,.* bytes for 4 x 4 pixels"):
        read_open_picture(Endless())  # type: ignore[arg-type]


# Folders of pictures --------------------------------------------------------------------------------------------------


def fill(root: Path) -> Path:
    for value, name in enumerate(("a/1.png", "b/1.png")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png([1, value, 1]))
    return root


def test_a_link_that_leads_out_of_the_folder_is_skipped_and_named(root: Path, private: Path) -> None:
    fill(root)
    (root / "a" / "2.png").symlink_to(private / "passport.png")
    (root / "a" / "3.png").symlink_to("../../private/passport.png")
    (root / "a" / "chain.png").symlink_to("2.png")
    (root / "more").symlink_to(private)
    (root / "b" / "own.png").symlink_to("../a/1.png")
    (root / "own").symlink_to("b")
    row = folder_source(root)
    found = {tile.source_path: getattr(tile, "reason", "") for tile in read(row)}
    out = dict.fromkeys(["a/2.png", "a/3.png", "a/chain.png", "more"], LINK_OUT)
    own = dict.fromkeys(["a/1.png", "b/1.png", "b/own.png", "own/1.png", "own/own.png"], "")
    assert found == {**out, **own}
    assert f"skipped, because it {LINK_OUT}: a/2.png, a/3.png, a/chain.png and 1 more" in row.open().notes
    followed = folder_source(root, follow_links=True).open().splits["train"]
    assert sum(isinstance(tile, Tile) for tile in followed.read(range(len(followed)))) == len(found)


def test_a_folder_of_nothing_but_links_out_says_what_to_type(root: Path, private: Path) -> None:
    (root / "more").symlink_to(private)
    with pytest.raises(SourceError, match=r"every picture lies behind a link .* \(more\): type --follow-links"):
        folder_source(root).open()


@pytest.mark.parametrize("follow_links", [False, True])
def test_links_in_a_circle_end(root: Path, private: Path, follow_links: bool) -> None:
    fill(root)
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "self.png").symlink_to("self.png")
    (root / "out").symlink_to(private)
    (private / "back").symlink_to(root)
    began = time.monotonic()
    found = folder_source(root, follow_links=follow_links).open()
    assert time.monotonic() - began < 5
    assert len(found.splits["train"]) == 4


def test_the_size_of_what_a_link_leads_to_is_not_asked_for(root: Path, private: Path) -> None:
    fill(root)
    (root / "a" / "2.png").symlink_to(private / "passport.png")
    before = folder_source(root).open().listing
    (private / "passport.png").write_bytes(b"much longer than it was" * 99)
    assert folder_source(root).open().listing == before


def test_the_command_line_follows_links_where_it_is_told_to(root: Path, private: Path, tmp_path: Path) -> None:
    fill(root)
    (root / "a" / "2.png").symlink_to(private / "passport.png")
    for options, rows, skipped in (([], 2, 1), (["--follow-links"], 3, 0)):
        out = tmp_path / f"out{rows}"
        command = ["build", str(root), "--vae", "pool8", "--out", str(out), "--max-bad", "1", "--json", *options]
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
        manifest = json.loads((out / "source-pool8" / "manifest.json").read_text())
        assert manifest["splits"]["train"]["rows"] == rows
        assert [entry["reason"] for entry in manifest["build"]["skipped"]] == [LINK_OUT] * skipped
    assert str(private) not in (out / "source-pool8" / "manifest.json").read_text()
