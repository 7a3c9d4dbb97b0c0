"""Input that means harm: nothing is executed, nothing written elsewhere, and one line says what was refused.

Every table takes a new case in one line. Archives have a suite of their own, tests/data/test_unpack.py.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
import yaml
from PIL import Image

from adaptsr import files
from adaptsr.backbones.checkpoints import read_checkpoint
from adaptsr.config import reading, schema
from adaptsr.data.images import read_image
from adaptsr.data.kinds.pairs import prepare as prepare_pairs
from adaptsr.data.manifest import read_manifest
from adaptsr.errors import UserError
from adaptsr.runs import validation
from adaptsr.runs.loading import merge_run
from adaptsr.runs.matrix import Matrix
from adaptsr.scoring.table import COLUMNS, METADATA, read_scores
from adaptsr.tensors import load_tensors
from tests.reliability.conftest import Place, train_words

Sentinel = Path
"""A file that a payload makes if it is executed."""


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, sentinel: Sentinel) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.sentinel}'",)


class TouchInState(Touch):
    """The same, hidden in the state of an object that is harmless to make."""

    def __reduce__(self) -> tuple[Any, ...]:
        return OrderedDict, (), {"x": Touch(self.sentinel)}


TENSORS = {"conv_first.weight": torch.zeros(4, 3, 3, 3)}


def saved(content: object, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def zipped(members: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def torch_zip(data: bytes, **members: bytes) -> bytes:
    """torch.save's container around a pickle of our own."""
    return zipped({"archive/data.pkl": data, "archive/version": b"3\n", "archive/byteorder": b"little", **members})


def tarred(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def bombed() -> bytes:
    """A checkpoint whose members unpack to a thousand times its size."""
    sound = zipfile.ZipFile(io.BytesIO(saved({"w": torch.zeros(64 << 20, dtype=torch.uint8)})))
    return zipped({name: sound.read(name) for name in sound.namelist()}, zipfile.ZIP_DEFLATED)


def safetensors_of(header: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str = "F32", shape: tuple[int, ...] = (2,), offsets: tuple[int, int] = (0, 8)) -> dict[str, Any]:
    return {"w": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


CHECKPOINTS: dict[str, tuple[str, Callable[[Sentinel], bytes]]] = {
    "a pickle that executes, .pth": ("x.pth", lambda s: pickle.dumps(Touch(s))),
    "a pickle that executes, .pt": ("x.pt", lambda s: pickle.dumps(Touch(s))),
    "a pickle that executes, .ckpt": ("x.ckpt", lambda s: pickle.dumps(Touch(s))),
    "a pickle that executes, .safetensors": ("x.safetensors", lambda s: pickle.dumps(Touch(s))),
    "a pickle that executes, .bin": ("x.bin", lambda s: pickle.dumps(Touch(s), protocol=0)),
    "the oldest protocol": ("x.pth", lambda s: f"cposix\nsystem\n(S\"touch '{s}'\"\ntR.".encode()),
    "protocol 5": ("x.pth", lambda s: pickle.dumps(Touch(s), protocol=5)),
    "torch.save of an object": ("x.pth", lambda s: saved(Touch(s))),
    "torch.save, the old container": ("x.pth", lambda s: saved(Touch(s), _use_new_zipfile_serialization=False)),
    "beside tensors": ("x.pth", lambda s: saved({"params": TENSORS, "notes": Touch(s)})),
    "among tensors": ("x.pth", lambda s: saved({"params": {**TENSORS, "x": Touch(s)}})),
    "as a key": ("x.ckpt", lambda s: saved({"state_dict": TENSORS, "hyper_parameters": {"a": [Touch(s)]}})),
    "in an object's state": ("x.pth", lambda s: saved({"params": TENSORS, "x": TouchInState(s)})),
    "in a numpy array": ("x.pth", lambda s: saved({"x": np.array([Touch(s)], dtype=object)})),
    "in a zip": ("x.pth", lambda s: zipped({"model.pth": pickle.dumps(Touch(s))})),
    "in a zip, as torch.save names it": ("x.pth", lambda s: torch_zip(pickle.dumps(Touch(s), protocol=2))),
    "in a zip called .zip": ("x.zip", lambda s: zipped({"data.pkl": pickle.dumps(Touch(s))})),
    "in a tar": ("x.pth", lambda s: tarred({"pickle": pickle.dumps(Touch(s)), "storages": b"", "tensors": b""})),
    "eval": ("x.pth", lambda s: f"cbuiltins\neval\n(S\"open('{s}','w')\"\ntR.".encode()),
    "a function of torch": ("x.pth", lambda s: f"ctorch.hub\nload\n(S'{s}'\nS'x'\ntR.".encode()),
    "a module of torch": ("x.pth", lambda s: saved(torch.nn.Linear(2, 2))),
    "TorchScript": ("x.pt", lambda _: torchscript()),
    "TorchScript called .pth": ("x.pth", lambda _: torchscript()),
    "nothing": ("x.pth", lambda _: b""),
    "a web page": ("x.pth", lambda _: b"<html><script>alert(1)</script></html>"),
    "cut in the middle": ("x.pth", lambda _: saved(TENSORS)[:400]),
    "a zip of nothing": ("x.pth", lambda _: zipped({})),
    "a bomb": ("x.pth", lambda _: bombed()),
    "a tensor far larger than the file": ("x.pth", lambda _: saved({"w": torch.zeros(1).expand(1 << 40)})),
    "a list": ("x.pth", lambda _: saved([torch.zeros(2)])),
    "a single tensor": ("x.pth", lambda _: saved(torch.zeros(2))),
    "numbers among tensors": ("x.pth", lambda _: saved({**TENSORS, "epoch": 3})),
    "no tensors": ("x.pth", lambda _: saved({})),
    "safetensors: a header of exabytes": ("x.safetensors", lambda _: safetensors_of(b"{}", length=1 << 62)),
    "safetensors: a header longer than the file": ("x.safetensors", lambda _: safetensors_of(b"{}", length=5000)),
    "safetensors: no header": ("x.safetensors", lambda _: b"\x00" * 4),
    "safetensors: not JSON": ("x.safetensors", lambda _: safetensors_of(b"<script>alert(1)</script>")),
    "safetensors: not a mapping": ("x.safetensors", lambda _: safetensors_of([1, 2])),
    "safetensors: nested deeply": ("x.safetensors", lambda _: safetensors_of(b'{"w":' + b"[" * 100_000)),
    "safetensors: offsets beyond the file": ("x.safetensors", lambda _: safetensors_of(entry(offsets=(0, 1 << 40)))),
    "safetensors: offsets of another size": ("x.safetensors", lambda _: safetensors_of(entry(shape=(99,)), bytes(8))),
    "safetensors: negative offsets": ("x.safetensors", lambda _: safetensors_of(entry(offsets=(-8, 0)), bytes(8))),
    "safetensors: offsets in reverse": ("x.safetensors", lambda _: safetensors_of(entry(offsets=(8, 0)), bytes(8))),
    "safetensors: a hole": ("x.safetensors", lambda _: safetensors_of(entry(offsets=(8, 16)), bytes(16))),
    "safetensors: overlapping": (
        "x.safetensors",
        lambda _: safetensors_of({**entry(), "v": entry()["w"]}, bytes(8)),
    ),
    "safetensors: a shape that overflows": (
        "x.safetensors",
        lambda _: safetensors_of(entry(shape=(1 << 62, 4)), bytes(8)),
    ),
    "safetensors: an unknown type": ("x.safetensors", lambda _: safetensors_of(entry(dtype="PY"), bytes(8))),
    "safetensors: data after the end": ("x.safetensors", lambda _: safetensors_of(entry(), bytes(9))),
}


def check_refusal(caught: pytest.ExceptionInfo[UserError], path: Path) -> None:
    message = str(caught.value)
    assert message.isprintable(), "nothing that a terminal acts on"
    assert str(path) in message
    assert len(message) < 1500


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", CHECKPOINTS)
def test_checkpoints(tmp_path: Path, case: str) -> None:
    name, make = CHECKPOINTS[case]
    path, sentinel = tmp_path / name, tmp_path / "executed"
    path.write_bytes(make(sentinel))
    with pytest.raises(UserError) as caught:
        read_checkpoint(path)
    check_refusal(caught, path)
    assert not sentinel.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_the_payload_would_execute(tmp_path: Path) -> None:
    """The suite proves something only if its payload works."""
    for index, payload in enumerate((Touch, TouchInState)):
        pickle.loads(pickle.dumps(payload(tmp_path / str(index))))
        assert (tmp_path / str(index)).exists()
    torch.load(io.BytesIO(saved(Touch(tmp_path / "torch"))), weights_only=False)
    assert (tmp_path / "torch").exists()


@pytest.mark.parametrize("case", [case for case, (name, _) in CHECKPOINTS.items() if name.endswith(".safetensors")])
def test_adaptations_and_checkpoints_of_ours(tmp_path: Path, case: str) -> None:
    path = tmp_path / "adaptation.safetensors"
    path.write_bytes(CHECKPOINTS[case][1](tmp_path / "executed"))
    with pytest.raises(UserError) as caught:
        load_tensors(path)
    check_refusal(caught, path)
    assert list(tmp_path.iterdir()) == [path]


# Images.


def png(width: int, height: int, data: bytes = b"", extra: bytes = b"", depth: int = 8, color: int = 2) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def picture(form: str, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, form)
    return buffer.getvalue()


def jpeg(width: int, height: int) -> bytes:
    """A small JPEG that claims to be large."""
    content = bytearray(picture("JPEG"))
    start = content.index(b"\xff\xc0")
    content[start + 5 : start + 9] = struct.pack(">HH", height, width)
    return bytes(content)


IMAGES: dict[str, tuple[Callable[[], bytes], str]] = {
    "2147483647 pixels a side": (lambda: png(2**31 - 1, 2**31 - 1), "more than 80000000 pixels"),
    "100000 pixels a side": (lambda: png(100_000, 100_000), "more than 80000000 pixels"),
    "just too many pixels": (lambda: png(10_000, 8_001), "more than 80000000 pixels"),
    "65535 pixels a side, JPEG": (lambda: jpeg(65_535, 65_535), "more than 80000000 pixels"),
    "no pixels": (lambda: png(0, 0), "unreadable or truncated"),
    "no pixel data": (lambda: png(64, 64), "unreadable or truncated"),
    "less pixel data than it claims": (lambda: png(640, 640, zlib.compress(bytes(100))), "unreadable or truncated"),
    "pixel data that is no zlib": (lambda: png(64, 64, b"x" * 100), "unreadable or truncated"),
    "a text chunk that is a bomb": (
        lambda: png(8, 8, extra=chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20)))),
        "unreadable or truncated",
    ),
    "a wrong checksum": (lambda: png(8, 8)[:30] + b"x" + png(8, 8)[31:], "unreadable or truncated"),
    "cut": (lambda: picture("PNG", 200)[:-60], "unreadable or truncated"),
    "16 bits": (lambda: png(8, 8, depth=16), "16-bit"),
    "a GIF": (lambda: picture("GIF"), "unreadable or truncated"),
    "PostScript": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "unreadable or truncated"),
    "SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>", "unreadable or"),
    "a web page": (lambda: b"<html><script>alert(1)</script></html>", "unreadable or truncated"),
    "nothing": (lambda: b"", "unreadable or truncated"),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images(tmp_path: Path, case: str) -> None:
    make, said = IMAGES[case]
    path = tmp_path / "x.png"
    path.write_bytes(make())
    with pytest.raises(UserError, match=said) as caught:
        read_image(path)
    check_refusal(caught, path)


NAMES = [
    "two\nlines",
    "a\ttab and\rreturn",
    "\x1b[2Jcleared",
    "\u202egnp.exe",
    "quote'quote",
    'double"quote',
    "$(touch executed)",
    "`touch executed`",
    "; touch executed ;",
    "| tee executed",
    "-rf",
    "--help",
    " leading and trailing ",
    "<script>alert(1)</script>".replace("/", "\u2215"),
    "<img src=x onerror=alert(1)>",
    "&amp;",
    "{wildcard}",
    "{output}",
    "%s%n",
    "*",
    "~",
    "..",
    "name.with.dots",
    "\N{SNOWMAN}",
    "x" * 200,
]


def write_pair(root: Path, name: str) -> None:
    for side, size in (("lr", 16), ("hr", 64)):
        (root / side).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(zlib.crc32(name.encode()) + size).integers(
            0, 256, (size, size, 3), dtype=np.uint8
        )
        Image.fromarray(pixels).save(root / side / f"{name}.png", "PNG")


def pairs_of(root: Path) -> schema.Pairs:
    return schema.Pairs(kind="pairs", lr=str(root / "lr"), hr=str(root / "hr"), split={"test": "all"})


@pytest.mark.parametrize("name", NAMES)
def test_a_message_about_a_file_of_any_name_is_one_line(tmp_path: Path, name: str) -> None:
    write_pair(tmp_path, name)
    (tmp_path / f"lr/{name}.png").write_bytes(b"")
    with pytest.raises(UserError) as caught:
        prepare_pairs("camera", pairs_of(tmp_path), tmp_path, 4)
    assert str(caught.value).isprintable()


def link_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


LINKS: dict[str, Callable[[Path], object]] = {
    "absolute": link_to("/etc/hostname"),
    "relative": link_to("../../outside.png"),
    "to a device": link_to("/dev/zero"),
    "to standard input": link_to("/dev/stdin"),
    "to itself": lambda path: path.symlink_to(path.name),
    "to nothing": link_to("nowhere"),
    "to a folder": link_to("/etc"),
    "a pipe, which would never end": os.mkfifo,
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", LINKS)
def test_links_and_pipes_in_a_data_folder(tmp_path: Path, case: str) -> None:
    write_pair(tmp_path / "pairs", "a")
    write_pair(tmp_path / "pairs", "b")
    (tmp_path / "outside.png").write_bytes((tmp_path / "pairs/lr/a.png").read_bytes())
    (tmp_path / "pairs/lr/b.png").unlink()
    LINKS[case](tmp_path / "pairs/lr/b.png")
    with pytest.raises(UserError, match=r"LR b\.png") as caught:
        prepare_pairs("camera", pairs_of(tmp_path / "pairs"), tmp_path, 4)
    assert str(caught.value).isprintable()


# Profiles.

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)
)
MERGES = "b0: &b0 {x: [1, 2, 3]}\n" + "".join(f"b{i}: &b{i} {{l: *b{i - 1}, r: *b{i - 1}}}\n" for i in range(1, 40))

YAMLS: dict[str, str] = {
    "a tag that executes": "name: !!python/object/apply:os.system ['touch executed']",
    "a tag that makes an object": "name: !!python/object/new:subprocess.Popen [['touch', 'executed']]",
    "a tag that names": "name: !!python/name:os.system",
    "a tag that imports": "name: !!python/module:antigravity",
    "a tag of its own": "name: !Evil {x: 1}",
    "a tag by its full name": "name: !<tag:yaml.org,2002:python/object/apply:os.system> ['touch executed']",
    "billion laughs": LAUGHS,
    "billion laughs in mappings": MERGES,
    "a list in itself": "name: &a [*a]",
    "a mapping in itself": "name: &a {x: *a}",
    "a merge of itself": "name: &a {<<: *a}",
    "nested deeply": "name: " + "[" * 20_000,
    "nested deeply and closed": "name: " + "[" * 400 + "]" * 400,
    "nested deeply in mappings": "".join(" " * i + "x:\n" for i in range(900)),
    "a number of many digits": "scale: " + "9" * 10_000,
    "bytes": "name: !!binary R0lGODlhDAAMAIQAAP",
    "a set": "name: !!set {a, b}",
    "a date": "title: 2026-01-01",
    "a date where anything may stand": "backbones: {a: {architecture: edsr, options: {x: 2026-01-01}}}",
    "a number as a key": "1: x",
    "a truth as a key": "yes: x",
    "a list as a key": "? [a, b]\n: x",
    "half a character": 'title: "\\ud800"',
    "a null byte": "title: a\0b",
    "another encoding": "\udcff\udcfe",
    "not a mapping": "- a\n- b",
    "nothing": "",
    "two documents": "a: 1\n---\nb: 2",
    "an unknown alias": "a: *b",
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("case", YAMLS)
def test_profiles(tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "profile.yaml"
    path.write_bytes(YAMLS[case].encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError) as caught:
        reading.load_profile(path)
    check_refusal(caught, path)
    assert list(tmp_path.iterdir()) == [path]


OUTSIDE = ["../x", "..", ".", "/tmp/x", "a/b", "a\\b", "-x", "a b", "a\nb", "a;b", "$(x)", "", "A", "x" * 300, "é"]


def put(*path: str) -> Callable[[dict[str, Any], str], None]:
    """Put a name in place of the last key of the path, or of a value at `=`."""

    def change(content: dict[str, Any], name: str) -> None:
        *parents, last = path
        target: Any = content
        for key in parents:
            target = target[key]
        if last.startswith("="):
            target[last[1:]] = name
        else:
            target[name] = target.pop(last)

    return change


PLACES: dict[str, Callable[[dict[str, Any], str], None]] = {
    "name": put("=name"),
    "dataset": put("datasets", "degraded"),
    "backbone": put("backbones", "safmn"),
    "table": put("report", "tables", "table2"),
    "metric": put("scoring", "metrics", "psnr_y"),
    "baseline": put("baselines", "lora"),
    "variant": lambda content, name: content["baselines"]["lora"].update(variants={name: {"rank": 1}}),
    "architecture": put("backbones", "safmn", "=architecture"),
    "external": lambda content, name: content.update(external={name: {"title": "x"}}),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_would_lead_elsewhere(
    tmp_path: Path, repository: Path, place: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load((repository / "config/demo.yaml").read_text())
    PLACES[place](content, name)
    path = tmp_path / "profile.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.chdir(repository)  # where the weights are that the profile names
    with pytest.raises(UserError) as caught:
        validation.check(Matrix.of(reading.load_profile(path), str(path)))
    check_refusal(caught, path)


# Run folders and manifests that a colleague hands over.


@pytest.fixture(scope="module")
def finished(prepared: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = prepared.copy(tmp_path_factory.mktemp("finished") / "place")
    place.succeed(*train_words("lora/r1", 1))
    return place


def in_record(**values: object) -> Callable[[Path], None]:
    def change(run: Path) -> None:
        content = json.loads((run / "record.json").read_text())
        for key, value in values.items():
            target = content
            *parents, last = key.split("__")
            for parent in parents:
                target = target[parent]
            target[last] = value
        (run / "record.json").write_text(json.dumps(content))

    return change


def in_plan(text: str) -> Callable[[Path], None]:
    return lambda run: forget_plan(run, text)


def forget_plan(run: Path, text: str) -> None:
    """A plan that the record vouches for."""
    (run / "plan.json").write_text(text)
    in_record(plan_sha256=None)(run)


def replaced_by_a_folder(run: Path) -> None:
    (run / "record.json").unlink()
    (run / "record.json").mkdir()


RUNS: dict[str, Callable[[Path], object]] = {
    "a baseline beside the run": in_record(baseline="../../../../evil"),
    "a baseline by its path": in_record(baseline="/tmp/evil"),
    "a baseline that is not there": in_record(baseline="evil"),
    "a baseline of dots": in_record(baseline=".."),
    "a variant that leads elsewhere": in_record(variant="../../x"),
    "a backbone that leads elsewhere": in_record(backbone="../../x"),
    "a profile that leads elsewhere": in_record(profile="../../x"),
    "no backbone": in_record(config={}),
    "a backbone that is none": in_record(config__backbone={"architecture": 3}),
    "an architecture that is a module": in_record(config__backbone__architecture="__arch_helpers"),
    "an architecture that is a path": in_record(config__backbone__architecture="...os"),
    "options that do not fit": in_record(config__backbone__options={"dim": "x", "n_blocks": 2}),
    "weights that are not there": in_record(config__backbone__weights="/nowhere.pth"),
    "weights that are a device": in_record(config__backbone__weights="/dev/zero"),
    "a scale of words": in_record(config__scale="four"),
    "markup for numbers": in_record(seed="<script>"),
    "another field": in_record(evil=1),
    "a plan that is a list": in_plan("[1, 2]"),
    "a plan of nothing": in_plan("{}"),
    "a plan nested deeply": in_plan("[" * 100_000),
    "a plan for other layers": in_plan('{"ranks": {"__class__": 1}, "sites": ["__class__.__init__"]}'),
    "a plan of a number of many digits": in_plan('{"a": ' + "9" * 10_000 + "}"),
    "no plan": lambda run: (run / "plan.json").unlink(),
    "a record that is a folder": replaced_by_a_folder,
    "a record of bytes": lambda run: (run / "record.json").write_bytes(b"\xff\xfe\x00"),
    "a record nested deeply": lambda run: (run / "record.json").write_text('{"a":' * 50_000),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS)
def test_runs(finished: Place, tmp_path: Path, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    place = finished.copy(tmp_path / "place")
    monkeypatch.chdir(place.root)
    run = place.run_folder("lora/r1", 1)
    for folder in (place.root, Path("/tmp")):
        (folder / "evil.py").write_text("open('executed', 'w')\ndef attach(model, plan): pass\n")
    try:
        RUNS[case](run)
        with pytest.raises(UserError) as caught:
            merge_run(run.relative_to(place.root))
    finally:
        Path("/tmp/evil.py").unlink()
    assert str(caught.value).isprintable()
    assert not list(place.root.rglob("executed"))


def a_score(**values: Any) -> pyarrow.Table:
    row = dict.fromkeys(COLUMNS, "x") | {"seed": 1, "value": 27.5, "crop_border": 0} | values
    return pyarrow.table({name: [value] for name, value in row.items()})


SCORE_FILES: dict[str, tuple[pyarrow.Table, bytes]] = {
    "metadata nested deeply": (a_score(), b"[" * 100_000),
    "metadata that is a list": (a_score(), b"[]"),
    "metadata of bytes": (a_score(), b"\xff\xfe"),
    "no basis": (a_score(), b'{"key": "", "sha256": ""}'),
    "a fingerprint of other things": (a_score(), b'{"key": "", "sha256": "", "basis": {"weights": [1], "evil": 2}}'),
    "a crop of many digits": (a_score(crop_border=Decimal("1e30")), b"{}"),
    "a seed of many digits": (a_score(seed=Decimal("1e30")), b"{}"),
    "a value of words": (a_score(value="high"), b"{}"),
    "a column less": (a_score().drop_columns(["value"]), b"{}"),
    "a list in a column": (a_score(image=["a", "b"]), b"{}"),
}


@pytest.mark.parametrize("case", SCORE_FILES)
def test_files_of_scores(tmp_path: Path, case: str) -> None:
    table, metadata = SCORE_FILES[case]
    path = tmp_path / "scores.parquet"
    pyarrow.parquet.write_table(table.replace_schema_metadata({METADATA: metadata}), path)
    with pytest.raises(UserError) as caught:
        read_scores(path)
    check_refusal(caught, path)


MANIFESTS: dict[str, dict[str, Any]] = {
    "a name that leads elsewhere": {"name": "../../x"},
    "an absolute name": {"name": "/tmp/x"},
    "a name of dots": {"name": ".."},
    "no name": {"name": ""},
    "a name with a null byte": {"name": "a\0b"},
    "another field": {"evil": 1},
    "a number for a path": {"lr": 3},
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_manifests(tmp_path: Path, case: str) -> None:
    item = {"name": "a", "scene": "a", "lr": "lr/a.png", "hr": "hr/a.png", "lr_sha256": "0" * 64, "hr_sha256": "0" * 64}
    content = {
        "dataset": "x",
        "scale": 4,
        "kind": "pairs",
        "split_rule": "",
        "splits": {"test": [item | MANIFESTS[case]]},
    }
    path = tmp_path / "manifest.json"
    files.write_json(path, content)
    with pytest.raises(UserError) as caught:
        read_manifest(path)
    check_refusal(caught, path)


# The shell.

COMMANDS: list[list[str]] = [
    ["train", "--backbone", "safmn", "--variant", "../evil/r1"],
    ["train", "--backbone", "safmn", "--variant", "lora/../../evil"],
    ["train", "--backbone", "../evil", "--variant", "lora/r1"],
    ["train", "--profile", "../../../etc/passwd", "--backbone", "safmn", "--variant", "lora/r1"],
    ["train", "--profile", "/dev/zero", "--backbone", "safmn", "--variant", "lora/r1"],
    ["train", "--profile", "two\nlines", "--backbone", "safmn", "--variant", "lora/r1"],
    ["data", "prepare", "../evil"],
    ["data", "fetch", "../evil"],
    ["report", "../evil"],
    ["score-runs", "--backbone", "../evil", "--out", "x.parquet"],
    ["sites", "--backbone", "evil.pth"],
    ["params", "--backbone", "evil.pth", "--variant", "lora/r1"],
    ["merge", "config", "-o", "x.safetensors"],
    ["merge", "\x1b[2J", "-o", "x.safetensors"],
    ["gather", "evil.pth", "--out", "x.parquet"],
    ["score", "--sr", "evil.pth", "--hr", "evil.pth"],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: ascii(" ".join(words)))
def test_commands(finished: Place, tmp_path: Path, words: list[str]) -> None:
    place = finished.copy(tmp_path / "place")
    (place.root / "evil.pth").write_bytes(pickle.dumps(Touch(place.root / "executed")))
    before = place.files()
    done = place.run(*words)
    assert done.status == 2, done.said
    assert done.lines == [done.mistake]
    assert done.mistake.isprintable()
    assert {name for name in place.files() - before if not name.startswith("command-")} == set()
