"""Downloads against a server of our own: the right file or one clear line, and never half a file under a final name."""

from __future__ import annotations

import copy
import hashlib
import http.server
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import parse_qsl, urlsplit

import numpy as np
import pytest

from adaptsr import files
from adaptsr.config.schema import Archive
from adaptsr.data import catalogue, fetch, transfer
from adaptsr.data.catalogue import WeightsFile
from adaptsr.data.manifest import read_manifest
from adaptsr.data.prepare import prepare
from adaptsr.data.store import load_split
from tests.data.tables import write_tables
from tests.factories import flipped, png_bytes, refusal, tree, zipped

CONTENT = bytes(np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8))
OTHER = flipped(CONTENT)
DRIVE_PAGE = """<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>
<form action="https://elsewhere.invalid/search"><input type="hidden" name="q" value="no"></form>
<form id="download-form" action="{action}" method="get"><input type="submit" value="Download anyway">
<input type="hidden" name="id" value="a&amp;b"><input type="hidden" name="confirm" value="t"></form></body></html>"""


@dataclass
class Served:
    """What one path of the server gives, and the requests it got."""

    body: bytes = CONTENT
    status: int = 200
    type: str = "application/octet-stream"
    etag: str | None = '"one"'
    ranges: bool = True
    length: bool = True
    cuts: list[int] = field(default_factory=list)
    """Bytes of the body after which the connection is cut, one for each of the first requests."""
    failures: int = 0
    """How many of the first requests are answered with 503."""
    confirmation: dict[str, str] | None = None
    """Query without which Google Drive's page is given instead."""
    requests: list[dict[str, str]] = field(default_factory=list)

    def answer(self, wanted: str | None, condition: str | None) -> tuple[int, dict[str, str], bytes]:
        headers = {"Content-Type": self.type} | ({"ETag": self.etag} if self.etag else {})
        status, body = self.status, self.body
        if wanted and self.ranges and condition in (None, self.etag):
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return 416, {"Content-Type": "text/html", "Content-Range": f"bytes */{len(body)}"}, b"<html>no</html>"
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            status, body = 206, body[start:]
        if self.length:
            headers["Content-Length"] = str(len(body))
        return status, headers, body


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: dict[str, Served] = {}
        self.root = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def serve(self, path: str, served: Served | None = None) -> Served:
        self.paths[path] = served or Served()
        return self.paths[path]

    def close(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        served = self.server.paths.get(address.path)
        if served is None:
            self.send_error(404)
            return
        served.requests.append(dict(self.headers))
        if len(served.requests) <= served.failures:
            self.send_error(503)
            return
        cut = None
        if served.confirmation is not None and dict(parse_qsl(address.query)) != served.confirmation:
            status, headers = 200, {"Content-Type": "text/html; charset=utf-8"}
            body = DRIVE_PAGE.format(action=f"{address.path}?").encode()
        else:
            status, headers, body = served.answer(self.headers.get("Range"), self.headers.get("If-Range"))
            cut = served.cuts.pop(0) if served.cuts else None
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(transfer, "FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(transfer, "TIMEOUT_SECONDS", (5, 5))
    monkeypatch.setattr(transfer, "CHUNK_BYTES", 10_000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def sha256(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def source(server: Server, path: str = "/file", **changes: object) -> WeightsFile:
    content: dict[str, object] = {
        "name": "net",
        "version": "1",
        "file": "net.pth",
        "address": server.root + path,
        "bytes": len(CONTENT),
        "checksum": sha256(CONTENT),
        "licence": "none",
        "fetch": "http",
    }
    return WeightsFile.model_validate({key: value for key, value in (content | changes).items() if value is not None})


def refused(of: WeightsFile) -> str:
    """The line with which fetching ends."""
    return refusal(lambda: fetch.ensure(of))


def fetched_files() -> dict[str, bytes]:
    folder = Path("resources/weights")
    return {path.name: path.read_bytes() for path in folder.glob("*") if path.name != ".lock"}


WHOLE = {"net.pth": CONTENT}


def lies_there(content: bytes, name: str = "net.pth") -> None:
    Path("resources/weights").mkdir(parents=True, exist_ok=True)
    Path("resources/weights", name).write_bytes(content)


def ranges(served: Served) -> list[str | None]:
    """What part of the file each request asked for; None is all of it."""
    return [request.get("Range") for request in served.requests]


@dataclass(frozen=True)
class Case:
    """What a server gives, and what lies there before."""

    served: dict[str, object] = field(default_factory=dict)
    source: dict[str, object] = field(default_factory=dict)
    part: bytes | None = None
    """What an earlier call left of the file."""
    ranges: tuple[str | None, ...] = (None,)
    recorded: bool = False
    """Whether the checksum of the first file seen is kept."""


FETCHED: dict[str, Case] = {
    "whole": Case(),
    "the connection is cut twice": Case({"cuts": [100_000, 50_000]}, ranges=(None, "bytes=100000-", "bytes=150000-")),
    "a part that is whole already": Case(part=CONTENT, ranges=()),
    "a server without ranges": Case({"ranges": False, "cuts": [100_000]}, ranges=(None, "bytes=100000-")),
    "a part of another file": Case(part=b"x" * 1000, ranges=("bytes=1000-", None)),
    "a part longer than the file": Case(part=CONTENT + b"x"),
    "a busy server": Case({"failures": 2}, ranges=(None, None, None)),
    "a part that the server cannot confirm": Case(
        {"etag": None, "cuts": [100_000]}, {"checksum": None}, ranges=(None, None), recorded=True
    ),
    "published first digits": Case(source={"checksum": sha256(CONTENT)[:15]}, recorded=True),
    "MD5": Case(source={"checksum": f"md5:{hashlib.md5(CONTENT).hexdigest()}"}),
}


@pytest.mark.parametrize("case", FETCHED)
def test_fetched_whole(server: Server, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = FETCHED[case]
    served = server.serve("/file", replace(Served(), **copy.deepcopy(found.served)))
    if found.part is not None:
        lies_there(found.part, "net.pth.part")
    assert fetch.ensure(source(server, **found.source)) == Path("resources/weights/net.pth")
    record = {"net.pth.sha256": f"{sha256(CONTENT)[7:]}  net.pth\n".encode()} if found.recorded else {}
    assert fetched_files() == WHOLE | record
    assert tuple(ranges(served)) == found.ranges
    assert not capsys.readouterr().out


REFUSED: dict[str, tuple[Case, str]] = {
    "wrong size, seen before the file comes": (
        Case({"body": CONTENT + b"x"}),
        "the server's file has 300001 bytes, expected 300000",
    ),
    "more than expected, unannounced": (
        Case({"body": CONTENT + b"x" * 20_000, "length": False}),
        "received more than the expected 300000 bytes",
    ),
    "less than expected, unannounced": (
        Case({"body": CONTENT[:-1], "length": False}),
        "299999 bytes, expected 300000",
    ),
    "wrong checksum": (
        Case({"body": OTHER}),
        f"its SHA-256 is {sha256(OTHER)[7:]}, expected {sha256(CONTENT)[7:]}",
    ),
    "wrong first digits": (Case(source={"checksum": "sha256:00000000"}), "expected 00000000"),
    "wrong MD5": (Case(source={"checksum": f"md5:{'0' * 32}"}), "its MD5 is"),
    "an unknown size of an unknown content": (
        Case({"length": False}, {"bytes": None, "checksum": None}),
        "does not state the size of the file",
    ),
    "a web page that is no confirmation": (
        Case(
            {"body": b"<html><head><title>Google Drive -\n Quota exceeded</title></head></html>", "type": "text/html"},
            {"fetch": "gdrive", "bytes": None, "checksum": None},
        ),
        "received a web page instead of the file (Google Drive - Quota exceeded)",
    ),
    "a confirmation page that asks for ever": (
        Case({"confirmation": {"never": "given"}}, {"fetch": "gdrive"}, ranges=(None, None)),
        "received another web page",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_and_nothing_is_left(server: Server, case: str) -> None:
    given, said = REFUSED[case]
    served = server.serve("/file", replace(Served(), **copy.deepcopy(given.served)))
    assert said in refused(source(server, **given.source))
    assert fetched_files() == {}
    assert tuple(ranges(served)) == given.ranges


def stop_after(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the transfer end with this error once 100,000 bytes have arrived."""
    append = transfer.Part.append

    def stopped(part: transfer.Part, chunk: bytes) -> None:
        if part.size >= 100_000:
            raise error
        append(part, chunk)

    monkeypatch.setattr(transfer.Part, "append", stopped)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")], ids=repr)
def test_a_call_that_ends_in_the_middle_leaves_a_part_that_the_next_one_resumes(
    server: Server, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    served = server.serve("/file")
    with monkeypatch.context() as context:
        stop_after(error, context)
        if isinstance(error, OSError):
            said = "cannot be written: No space left on device; run the command again to fetch the rest"
            assert said in refused(source(server))
        else:
            with pytest.raises(KeyboardInterrupt):
                fetch.ensure(source(server))
    assert fetched_files().keys() == {"net.pth.part", "net.pth.part.json"}
    assert fetched_files()["net.pth.part"] == CONTENT[:100_000]
    fetch.ensure(source(server))
    assert fetched_files() == WHOLE
    assert ranges(served)[-1] == "bytes=100000-"


def test_a_server_that_never_gets_further_is_given_up(server: Server) -> None:
    served = server.serve("/file", Served(cuts=[1000] + [0] * 50))
    assert "attempts in a row got no data" in refused(source(server))
    assert len(served.requests) == 1 + transfer.ATTEMPTS
    assert fetched_files()["net.pth.part"] == CONTENT[:1000]
    assert "net.pth" not in fetched_files()


@pytest.mark.parametrize(
    ("first", "asked"), [(None, None), (Served(body=OTHER), None), (Served(cuts=[200_000] + [0] * 50), "bytes=200000-")]
)
def test_the_mirror_is_asked_where_the_address_fails(server: Server, first: Served | None, asked: str | None) -> None:
    """It is not there, it has another file, or it broke off."""
    if first:
        server.serve("/file", copy.deepcopy(first))
    mirror = server.serve("/mirror", Served(etag='"two"'))
    fetch.ensure(source(server, mirrors=f"{server.root}/gone|{server.root}/mirror"))
    assert fetched_files() == WHOLE
    assert ranges(mirror) == [asked]


def test_a_file_that_is_nowhere(server: Server) -> None:
    closed = Server()
    closed.close()
    message = refused(source(server, "/gone", mirrors=f"{server.root}/gone2|{closed.root}/file"))
    assert message.startswith("net: could not be fetched: ")
    for said in (
        f"{server.root}/gone: 404 Not Found; {server.root}/gone2: 404 Not Found; ",
        f"{closed.root}/file: 4 attempts in a row got no data",
        "try again later",
        f"resources/weights/net.pth yourself (300000 bytes, {sha256(CONTENT)})",
    ):
        assert said in message
    assert fetched_files() == {}


def test_two_at_once_fetch_a_file_once_and_say_so(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    served = server.serve("/file")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fetch.ensure, [source(server)] * 2))
    assert fetched_files() == WHOLE
    assert len(served.requests) == 1
    assert capsys.readouterr().err == f"Fetching net (300.0 kB) from {server.root[7:]}\n"


def test_a_file_that_lies_there_is_checked_and_used_without_network(server: Server) -> None:
    never = source(server, address="http://127.0.0.1:1/never")
    lies_there(CONTENT)
    fetch.ensure(never)
    lies_there(OTHER)
    message = refused(never)
    assert message.startswith("resources/weights/net.pth: not the file of net: its SHA-256 is")
    assert message.endswith("; delete it and fetch it again")
    assert fetched_files() == {"net.pth": OTHER}


def test_too_little_room_is_said_before_anything_comes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.serve("/file")
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    assert "needs 300.0 kB, but 1.0 kB are free on this disk" in refused(source(server))
    assert fetched_files() == {}


class TestFirstSight:
    """Without a published checksum the first file seen is the measure."""

    def test_recorded_and_compared(self, server: Server) -> None:
        served = server.serve("/file")
        unpublished = source(server, checksum=None)
        fetch.ensure(unpublished)
        record = f"{sha256(CONTENT)[7:]}  net.pth\n".encode()
        assert fetched_files() == WHOLE | {"net.pth.sha256": record}
        Path("resources/weights/net.pth").unlink()
        served.body = OTHER
        assert "differs from the one recorded when it was first seen" in refused(unpublished)
        assert fetched_files() == {"net.pth.sha256": record}
        served.body = CONTENT
        fetch.ensure(unpublished)
        lies_there(OTHER)
        assert "differs from the one recorded" in refused(unpublished)
        Path("resources/weights/net.pth.sha256").write_text("nonsense")
        assert "resources/weights/net.pth.sha256: expected `<SHA-256>  net.pth`" in refused(unpublished)

    def test_a_file_placed_by_hand_is_recorded_too(self, server: Server) -> None:
        lies_there(CONTENT)
        manual = source(server, checksum=None, fetch="manual")
        fetch.ensure(manual)
        lies_there(OTHER)
        assert refused(manual).endswith(f"; replace it with the file from {server.root}/file")

    def test_two_contents_are_never_joined(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file changes on the server between the cut and the next request: nothing else could tell."""
        served = server.serve("/file", Served(body=OTHER, etag='"old"', cuts=[100_000]))
        changed = bytes(reversed(CONTENT))
        answer = Handler.do_GET

        def change_after_the_first(handler: Handler) -> None:
            answer(handler)
            served.body, served.etag = changed, '"new"'

        monkeypatch.setattr(Handler, "do_GET", change_after_the_first)
        fetch.ensure(source(server, checksum=None))
        assert served.requests[1]["If-Range"] == '"old"'
        assert fetched_files()["net.pth"] == changed


def test_the_confirmation_page_of_google_drive_is_answered(server: Server) -> None:
    served = server.serve("/uc", Served(confirmation={"id": "a&b", "confirm": "t"}, cuts=[50_000]))
    fetch.ensure(source(server, "/uc?id=a", fetch="gdrive"))
    assert fetched_files() == WHOLE
    assert ranges(served) == [None, None, "bytes=50000-", "bytes=50000-"]


def test_manual_is_one_line_with_address_place_size_and_checksum(server: Server) -> None:
    manual = source(server, fetch="manual", address="https://example.org/page", note="code osiy")
    assert refused(manual) == (
        "net: this file needs a manual download: get it from https://example.org/page and put it at resources/weights/net.pth "
        f"(300000 bytes, {sha256(CONTENT)}); code osiy"
    )
    message = refused(source(server, fetch="manual", bytes=None, checksum=None))
    assert "(size not published, checksum not published: recorded from the first file)" in message


# The commands `adaptsr data` and datasets of kind `archive`


LR = {f"set/lr/{name}x4.png": png_bytes(seed, 6) for seed, name in enumerate(["0001", "0002", "0003"])}
HR = {f"set/hr/{name}.png": png_bytes(10 + seed, 24) for seed, name in enumerate(["0001", "0002", "0003"])}


@pytest.fixture
def publish(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Put two archives on the server and a catalogue in place that knows them as dataset `set`."""

    def publish(lr: dict[str, bytes] = LR, hr: dict[str, bytes] = HR, **part: str) -> None:
        archives = []
        for side, members in (("lr", lr), ("hr", hr)):
            body = server.serve(f"/{side}", Served(body=zipped(members))).body
            row = {"name": f"set-{side}", "version": "1", "file": f"{side}.zip", "address": f"{server.root}/{side}"}
            row |= {"bytes": str(len(body)), "checksum": sha256(body), "licence": "MIT", "fetch": "http"}
            archives.append(row)
        rows = {"name": "set", "scale": "4", "split": "test", "pairs": "3", **part}
        rows |= {"lr": "set-lr:set/lr/{name}x4.png", "hr": "set-hr:set/hr/{name}.png"}
        net = {"name": "net", "version": "1", "file": "net.pth", "address": f"{server.root}/net", "licence": "MIT"}
        net |= {"fetch": "manual", "bytes": "300000", "checksum": sha256(CONTENT)}
        write_tables(tmp_path / "config", archives, [rows], [net])
        monkeypatch.setattr(catalogue, "FOLDER", tmp_path / "config")

    return publish


ARCHIVE = Archive(kind="archive", row="set")


def prepared() -> Path:
    return prepare("crops", ARCHIVE, Path("resources/crops"), 4)


def below(folder: str) -> set[str]:
    return set(tree(Path(folder)))


IMAGES = {f"test/{side}/{name}.png" for side in ("lr", "hr") for name in ("0001", "0002", "0003")}


class TestDatasets:
    def test_fetched_unpacked_and_listed(self, publish: Callable[..., None]) -> None:
        publish(scene="2")
        path = prepared()
        manifest = read_manifest(path)
        assert (manifest.kind, manifest.scale, manifest.dataset) == ("archive", 4, "crops")
        assert [item.name for item in manifest.splits["test"]] == ["0001", "0002", "0003"]
        assert [item.scene for item in manifest.splits["test"]] == ["0001", "000", "0003"]
        assert "dataset set of config/datasets.tsv (test 3 pairs), from set-lr 1, set-hr 1" in manifest.split_rule
        assert below("resources/crops") == IMAGES | {"manifest.json"}
        assert len(load_split(path, "test")) == 3
        assert (path.parent / "test/lr/0002.png").read_bytes() == LR["set/lr/0002x4.png"]
        assert not list(Path("resources").glob(".*"))

    def test_a_second_call_does_nothing_and_needs_no_archive(
        self, publish: Callable[..., None], server: Server
    ) -> None:
        publish()
        before = prepared().stat().st_mtime_ns
        for archive in Path("resources/archives").glob("*.zip"):
            archive.unlink()
        server.paths.clear()
        assert prepared().stat().st_mtime_ns == before

    @pytest.mark.parametrize("change", ["an image is gone", "the row is another"])
    def test_it_is_done_again_when(self, publish: Callable[..., None], change: str) -> None:
        publish()
        path = prepared()
        (path.parent / "train").mkdir()
        if change == "an image is gone":
            (path.parent / "test/hr/0001.png").unlink()
        else:
            publish(scene="2")
        before = path.stat().st_mtime_ns
        assert prepared().stat().st_mtime_ns != before
        assert below("resources/crops") == IMAGES | {"manifest.json"}
        assert not (path.parent / "train").exists()

    def test_lr_is_reduced_where_the_row_says_so(self, publish: Callable[..., None]) -> None:
        publish(lr={name: png_bytes(seed, 24) for seed, name in enumerate(LR)}, degradation="bicubic")
        pairs = load_split(prepared(), "test")
        assert [tuple(lr.shape) for lr in pairs.lr] == [(3, 6, 6)] * 3

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"lr": LR | {"../evil.png": b""}}, r"lr\.zip: refused: '\.\./evil\.png': a path that leads out"),
            ({"hr": HR | {"set/hr/0002.png": b"no image"}}, r"datasets\.crops: test HR 0002\.png: unreadable"),
            ({"scale": "2"}, r"datasets\.crops\.row: set has the scale 2, but the profile has 4"),
        ],
    )
    def test_what_is_wrong_is_one_line_and_nothing_is_left(
        self, publish: Callable[..., None], change: dict[str, object], said: str
    ) -> None:
        publish(**change)
        assert re.search(said, refusal(prepared))
        assert below("resources") <= {"archives/lr.zip", "archives/hr.zip"}
        assert not Path("evil.png").exists()
        assert not Path("resources/evil.png").exists()

    def test_what_a_killed_call_left_is_cleaned_up_by_the_next(self, publish: Callable[..., None]) -> None:
        publish()
        Path("resources/.crops.unpacking/test/lr").mkdir(parents=True)
        Path("resources/.crops.unpacking/test/lr/0001.png").write_bytes(b"torn")
        assert len(load_split(prepared(), "test")) == 3
        assert not list(Path("resources").glob(".*"))


class TestCommands:
    def test_status_fetch_and_verify(self, publish: Callable[..., None]) -> None:
        publish()
        assert [state.state for state in fetch.status()] == ["missing"] * 3
        states = fetch.fetch(["set", "set-lr"])
        assert {state.source.name: state.state for state in states} == {"set-lr": "verified", "set-hr": "verified"}
        lies_there(CONTENT[:100_000], "net.pth.part")
        assert [state.state for state in fetch.status()] == ["there", "there", "incomplete"]
        lines = fetch.as_text(fetch.status()).splitlines()
        assert lines[0].split() == ["NAME", "STATE", "SIZE", "HOW", "LICENCE"]
        assert lines[3].split() == ["net", "incomplete", "100.0", "kB", "300.0", "kB", "manual", "MIT"]
        assert lines[4].startswith("2 of 3 files present (")
        assert "200." in lines[4]
        lr = Path("resources/archives/lr.zip")
        lr.write_bytes(flipped(lr.read_bytes()))
        assert [state.state for state in fetch.status(["set"])] == ["there", "there"]
        (wrong, right) = fetch.verify(["set"])
        assert (wrong.state, right.state) == ("wrong", "verified")
        assert "its SHA-256 is" in str(wrong.problem)

    def test_what_cannot_be_had_does_not_keep_the_rest_from_coming(
        self, publish: Callable[..., None], server: Server
    ) -> None:
        publish()
        server.paths.pop("/lr")
        states = {state.source.name: state for state in fetch.fetch()}
        assert [states[name].state for name in ("set-lr", "set-hr", "net")] == ["missing", "verified", "missing"]
        assert "404 Not Found" in str(states["set-lr"].problem)
        assert "this file needs a manual download" in str(states["net"].problem)

    def test_weights_are_never_fetched_when_they_are_only_asked_for(self, publish: Callable[..., None]) -> None:
        publish()
        said = "net: these weights are missing; `adaptsr data fetch net` puts"
        assert said in refusal(lambda: fetch.fetched_weights("net"))
        lies_there(CONTENT)
        assert fetch.fetched_weights("net") == Path("resources/weights/net.pth")
        lies_there(OTHER)
        assert "not the file of net" in refusal(lambda: fetch.fetched_weights("net"))
        said = "nett: no row of this name in config/weights.tsv; there are net"
        assert said in refusal(lambda: fetch.fetched_weights("nett"))


def test_sizes_for_people() -> None:
    sizes = [files.size_text(size) for size in (None, 12, 1_234, 67_869_037, 3_530_603_713)]
    assert sizes == ["unknown", "12 B", "1.2 kB", "67.9 MB", "3.5 GB"]
