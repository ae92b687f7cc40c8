"""Files of a folder somewhere, from a server on 127.0.0.1 that cuts, refuses, delays and loses."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from range_server import Answers, Fault, RangeServer, serving

from latentstore.errors import FetchError, MissingFileError, RequestError, UnknownNameError
from latentstore.fsspec_files import FsspecFolder
from latentstore.http_files import HttpFolder
from latentstore.remote_files import RemoteFolder, open_folder
from latentstore.retries import PassingError, Patience

CONTENT = np.random.default_rng(0).bytes(700_000)
UNPATIENT = Patience(tries=3, first_wait=0, longest_wait=0, timeout=10)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RangeServer]:
    """A server of one folder with one file."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "file.bin").write_bytes(CONTENT)
    with serving(tmp_path) as found:
        yield found


def opened(server: RangeServer, patience: Patience = UNPATIENT) -> HttpFolder:
    return HttpFolder(f"{server.url}/a%20folder/", patience=patience)


def memory_folder(_: Path) -> RemoteFolder:
    import fsspec

    fsspec.filesystem("memory").pipe_file("/a folder/file.bin", CONTENT)
    return open_folder("memory://a folder")


def test_a_range_is_those_bytes_and_moves_no_others(server: RangeServer) -> None:
    folder = opened(server)
    assert folder.read_range("file.bin", 100, 70_000) == CONTENT[100:70_000]
    assert server.sent == 69_900
    assert folder.size("file.bin") == len(CONTENT)  # the answer said so
    assert folder.read_range("file.bin", 5, 5) == b""
    assert len(server.asked) == 1
    assert opened(server).size("file.bin") == len(CONTENT)
    assert server.sent == 69_901
    assert folder.read_bytes("file.bin", len(CONTENT)) == CONTENT


@pytest.mark.parametrize("kind", ["file", "path", "memory"])
def test_every_other_file_system_gives_the_same(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "a folder"
    place.mkdir()
    (place / "file.bin").write_bytes(CONTENT)
    (place / "inner").mkdir()
    (place / "inner" / "file.bin").write_bytes(b"12")
    folder = {
        "file": lambda: open_folder(f"file://{place}"),
        "path": lambda: open_folder(place),
        "memory": lambda: memory_folder(place),
    }[kind]()
    assert folder.read_range("file.bin", 100, 70_000) == CONTENT[100:70_000]
    assert folder.read_bytes("file.bin", len(CONTENT)) == CONTENT
    assert folder.size("file.bin") == len(CONTENT)
    assert folder.name in folder.at("file.bin")
    with pytest.raises(MissingFileError, match=re.escape(f"There is no {folder.at('other')}.")):
        folder.read_bytes("other", 10)
    with pytest.raises(FetchError, match=r"has only 700000 bytes, 700001 were expected: it was cut or replaced"):
        folder.read_range("file.bin", 5, len(CONTENT) + 1)
    with pytest.raises(FetchError, match="has 700000 bytes, expected 10 at most"):
        folder.read_bytes("file.bin", 10)
    if kind != "memory":
        assert folder.folders() == ["inner"]
        assert folder.inside("inner").read_bytes("file.bin", 2) == b"12"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=429, headers={"Retry-After": "1"}),
        Fault(status=500),
        Fault(status=503),
        Fault(lost=True),
        Fault(cut_after=0),
    ],
)
def test_what_passes_is_tried_again(server: RangeServer, fault: Fault) -> None:
    server.first(2, fault)
    assert opened(server).read_range("file.bin", 10, 90_000) == CONTENT[10:90_000]
    assert len(server.asked) == 3


@pytest.mark.parametrize("stop", [600_000, None])
def test_a_body_that_is_cut_goes_on_where_it_ended(server: RangeServer, stop: int | None) -> None:
    server.first(2, Fault(cut_after=200_000))
    folder = opened(server)
    wanted = CONTENT if stop is None else CONTENT[:stop]
    found = folder.read_bytes("file.bin", 10**6) if stop is None else folder.read_range("file.bin", 0, stop)
    assert found == wanted
    assert [one.start for one in server.asked] == [0, 200_000, 400_000]
    assert server.sent == len(wanted)


def test_a_whole_file_that_is_cut_begins_again_where_there_are_no_ranges(server: RangeServer) -> None:
    server.ranges = False
    server.first(1, Fault(cut_after=200_000))
    assert opened(server).read_bytes("file.bin", 10**6) == CONTENT


def test_a_server_that_is_silent_for_too_long_is_asked_again(server: RangeServer) -> None:
    server.first(1, Fault(wait=2))
    patient = Patience(tries=2, first_wait=0, timeout=0.3)
    assert opened(server, patient).read_range("file.bin", 0, 10) == CONTENT[:10]


def test_what_does_not_pass_is_one_sentence_with_address_status_and_tries(server: RangeServer) -> None:
    server.first(9, Fault(status=503))
    with pytest.raises(FetchError) as caught:
        opened(server).read_range("file.bin", 0, 10)
    assert str(caught.value) == (
        f"{server.url}/a folder/file.bin cannot be read: the server answers HTTP 503, tried 3 times; see whether the "
        "server is well and try again."
    ).replace("a folder", "a%20folder")
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(lost=True), r"cannot be read: the connection failed \(.*\), tried 3 times"),
        (Fault(cut_after=0), r"cannot be read: the connection ended after 0 of 10 bytes, tried 3 times"),
        (Fault(status=403), r"may not be read \(HTTP 403\): log in, or check the token"),
        (Fault(status=404), r"^There is no http.*/file.bin \(HTTP 404\)\.$"),
        (Fault(status=418), r"cannot be read: the server answers HTTP 418"),
    ],
)
def test_each_way_to_fail_has_its_sentence(server: RangeServer, fault: Fault, sentence: str) -> None:
    server.first(9, fault)
    with pytest.raises(FetchError, match=sentence):
        opened(server).read_range("file.bin", 0, 10)


def test_a_refusal_that_will_not_pass_is_not_tried_again(server: RangeServer) -> None:
    server.first(9, Fault(status=403))
    with pytest.raises(FetchError):
        opened(server).read_range("file.bin", 0, 10)
    assert len(server.asked) == 1


def test_a_server_without_ranges_is_refused_and_does_not_send_the_file(server: RangeServer) -> None:
    big = bytes(64 << 20)
    (server.root / "big.bin").write_bytes(big)
    server.ranges = False
    with pytest.raises(
        FetchError, match="sent the whole file where bytes 0 to 9 were asked for.*answers range requests"
    ):
        HttpFolder(server.url, patience=UNPATIENT).read_range("big.bin", 0, 10)
    with serving(server.root) as other:  # whose threads have ended once it is left
        other.ranges = False
        with pytest.raises(FetchError, match="range requests"):
            HttpFolder(other.url, patience=UNPATIENT).read_range("big.bin", 0, 10)
    assert other.sent < len(big) // 4


def test_the_wait_between_tries_grows_is_bounded_and_is_what_the_server_asks_for() -> None:
    waits: list[float] = []
    patience = Patience(tries=6, first_wait=1, longest_wait=10, sleep=waits.append)
    reasons = iter([PassingError("a"), PassingError("b"), PassingError("c", wait=9), PassingError("d", wait=99)])

    def attempt() -> str:
        for reason in reasons:
            raise reason
        return "done"

    assert patience.until_done(attempt, "it") == "done"
    assert 0.5 <= waits[0] <= 1 <= waits[1] <= 2
    assert waits[2:] == [9, 10]


def test_a_connection_is_used_again_and_a_dropped_one_is_no_failure(server: RangeServer) -> None:
    folder = opened(server, Patience(tries=1))
    for start in range(20):
        assert folder.read_range("file.bin", start, start + 5) == CONTENT[start : start + 5]
    assert server.connections == 1
    for idle in folder._connections._idle.values():
        assert idle[0].sock is not None
        idle[0].sock.shutdown(2)  # as a server does that has waited long enough
    assert folder.read_range("file.bin", 0, 5) == CONTENT[:5]
    assert server.connections == 2


def test_many_threads_and_a_copy_in_another_process_read_the_same(server: RangeServer) -> None:
    folder: HttpFolder = pickle.loads(pickle.dumps(opened(server)))  # noqa: S301 (our own bytes)
    starts = range(0, 600_000, 20_000)
    with ThreadPoolExecutor(8) as executor:
        found = list(executor.map(lambda start: folder.read_range("file.bin", start, start + 20_000), starts))
    assert found == [CONTENT[start : start + 20_000] for start in starts]


def redirecting(server: RangeServer, target: str) -> type[Answers]:
    class Redirecting(Answers):  # type: ignore[misc] # mypy finds it under another name
        server_of = server

        def answer(self, path: str, fault: Fault) -> None:
            self._refuse(path, 302, {"Location": f"{target}{quote(path)}?signed=1"})
            del fault

    return Redirecting


def test_a_token_stays_with_its_origin_and_redirects_are_remembered_until_they_expire(server: RangeServer) -> None:
    with serving(server.root, lambda front: redirecting(front, server.url)) as front:
        headers = {"Authorization": "Bearer secret"}
        folder = HttpFolder(f"{front.url}/a folder".replace(" ", "%20"), headers=headers, patience=UNPATIENT)
        for start in (0, 10, 20):
            assert folder.read_range("file.bin", start, start + 10) == CONTENT[start : start + 10]
        assert [one.headers.get("authorization") for one in front.asked] == ["Bearer secret"]
        assert [one.headers.get("authorization") for one in server.asked] == [None] * 3
        server.forget()
        server.first(1, Fault(status=403))  # as signed addresses answer after their time
        assert folder.read_range("file.bin", 30, 40) == CONTENT[30:40]
        assert len(front.asked) == 2


def test_a_redirect_without_end_is_refused(server: RangeServer) -> None:
    with (
        serving(server.root, lambda front: redirecting(front, "")) as front,
        pytest.raises(FetchError, match="is redirected 6 times"),
    ):
        HttpFolder(front.url, patience=UNPATIENT).read_range("file.bin", 0, 10)


def test_credentials_and_signatures_are_sent_and_not_shown(server: RangeServer) -> None:
    url = f"{server.url}/a%20folder?sig=secret".replace("http://", "http://me:pass%20word@")
    folder = HttpFolder(url, patience=UNPATIENT)
    assert folder.inside("x").at("y") == f"{server.url}/a%20folder/x/y"
    assert folder.read_range("file.bin", 0, 10) == CONTENT[:10]
    assert server.asked[0].headers["authorization"] == "Basic bWU6cGFzcyB3b3Jk"


@pytest.mark.parametrize(
    ("location", "error", "sentence"),
    [
        ("htp://example.org/x", UnknownNameError, "There is no scheme named 'htp'. Did you mean 'http'"),
        ("no such folder", RequestError, "There is no folder 'no such folder': give a folder, a URL"),
        ("hf://models/a/b", RequestError, r"Expected hf://datasets/user/repo\[@revision\]\[/folder\]"),
        ("s3://bucket/x", RequestError, "s3://bucket/x needs a package that is not installed: Install s3fs"),
    ],
)
def test_a_location_that_cannot_be_is_refused(location: str, error: type[Exception], sentence: str) -> None:
    if location.startswith("s3:"):
        try:
            import s3fs  # type: ignore[import-not-found] # noqa: F401
        except ImportError:
            pass
        else:
            pytest.skip("s3fs is installed")
    with pytest.raises(error, match=sentence):
        open_folder(location)


def test_the_web_is_read_by_this_library_and_other_schemes_by_fsspec() -> None:
    assert isinstance(open_folder("https://example.org/a"), HttpFolder)
    assert isinstance(open_folder("memory://a"), FsspecFolder)


def test_what_another_file_system_raises_is_translated(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    files = fsspec.filesystem("memory")
    folder = FsspecFolder("memory://b", patience=UNPATIENT)
    raised: list[Exception] = []
    tried = 0

    def failing(*_: object, **__: object) -> bytes:
        nonlocal tried
        tried += 1
        raise raised[-1]

    monkeypatch.setattr(type(files), "cat_file", failing)
    for found, sentence, times in (
        (OSError("reset by peer"), "cannot be read: reset by peer, tried 3 times", 3),
        (PermissionError("denied."), "may not be read: denied.", 1),
        (KeyError("credentials"), "cannot be read: 'credentials'.", 1),
    ):
        raised.append(found)
        tried = 0
        with pytest.raises(FetchError, match=sentence):
            folder.read_range("x", 0, 1)
        assert tried == times
