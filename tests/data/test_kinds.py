"""Every kind of dataset answers the same questions, without torch and before the data is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from adaptsr.config.schema import DATASET_KINDS, Archive, Pairs, SampleImages, Unpaired
from adaptsr.data.images import write_png
from adaptsr.data.kinds import ASSUMED_IMAGES, ASSUMED_LR_PIXELS, Description, SplitSize, kind_of
from adaptsr.data.prepare import prepare
from adaptsr.data.store import open_split
from adaptsr.errors import UserError
from tests.factories import noise

SAMPLES = SampleImages(
    kind="sample_images",
    scenes={"train": ["skimage/a.png+skimage/b.png", "sklearn/c.jpg"], "test": []},
    patch=64,
    patches_per_scene={"train": 3},
    degradation="bicubic",
)


def own_pairs(lr: str, hr: str = "hr", rule: str = "all") -> Pairs:
    return Pairs(kind="pairs", lr=lr, hr=hr, split={"test": rule})


def listed(declared: Pairs) -> Any:
    return json.loads(json.dumps(kind_of(declared).listing(declared)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for side in ("lr", "hr"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "a.png").write_bytes(b"a")
    return tmp_path


def test_a_folder_is_listed_in_one_way_however_it_is_spelled(folder: Path) -> None:
    (folder / "link").symlink_to("lr")
    spellings = [str(folder / "lr"), f"{folder}/lr/", "lr", "./lr/", "hr/../lr", "link"]
    first, *others = [listed(own_pairs(spelling)) for spelling in spellings]
    assert others == [first] * len(others)
    assert first[1][0] == str(folder.resolve() / "lr")


def test_every_change_of_a_folder_changes_its_listing(folder: Path) -> None:
    seen = [listed(own_pairs("lr")), listed(own_pairs("hr")), listed(own_pairs("lr", rule="none"))]
    for change in (
        lambda: (folder / "hr/b.png").write_bytes(b"b"),
        lambda: (folder / "hr/b.png").write_bytes(b"bb"),
        lambda: os.utime(folder / "lr/a.png", (1, 1)),
        lambda: (folder / "lr/a.png").unlink(),
    ):
        change()
        seen.append(listed(own_pairs("lr")))
    assert all(one != other for index, one in enumerate(seen) for other in seen[:index])


def test_a_listing_survives_what_lies_in_a_folder(folder: Path) -> None:
    before = listed(own_pairs("lr"))
    (folder / "lr/.DS_Store").write_bytes(b"x")
    assert listed(own_pairs("lr")) == before, "hidden files are no images"
    (folder / "lr/loop").symlink_to("loop")
    (folder / "lr/more").mkdir()
    assert [file[0] for file in listed(own_pairs("lr"))[1][1]] == ["a.png", "loop", "more"]
    assert listed(own_pairs("gone"))[1] == [str(folder.resolve() / "gone"), []]


@pytest.mark.parametrize("declared", [SAMPLES, Archive(kind="archive", row="realsr-v3-x4")])
def test_the_other_kinds_list_their_declaration(declared: SampleImages | Archive) -> None:
    assert kind_of(declared).listing(declared) == declared.model_dump(mode="json")


@pytest.mark.parametrize(
    ("declared", "split", "expected"),
    [
        (SAMPLES, "train", SplitSize(9, 256, True, True)),
        (SAMPLES, "test", SplitSize(0, 256, True, True)),
        (own_pairs("lr"), "test", SplitSize(ASSUMED_IMAGES, ASSUMED_LR_PIXELS, False, False)),
        (Archive(kind="archive", row="stablesr-div2k"), "test", SplitSize(3000, 128**2, True, True)),
        (Archive(kind="archive", row="div2k-bicubic-x4"), "validation", SplitSize(100, 510 * 339, True, True)),
        (Archive(kind="archive", row="realsr-v3-x4"), "test", SplitSize(100, ASSUMED_LR_PIXELS, True, False)),
        (Archive(kind="archive", row="dped-iphone"), "test", SplitSize(ASSUMED_IMAGES, 625, False, True)),
    ],
)
def test_what_is_known_of_a_split(declared: SampleImages | Pairs | Archive, split: Any, expected: SplitSize) -> None:
    assert kind_of(declared).estimate(declared, split, 4) == expected


def archive(row: str) -> Archive:
    return Archive(kind="archive", row=row)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ((SAMPLES, "train"), (SAMPLES, "validation"), False),
        ((SAMPLES, "train"), (SAMPLES, "train"), True),
        ((archive("div2k-unknown-x4"), "validation"), (archive("stablesr-div2k"), "test"), True),
        ((archive("div2k-unknown-x4"), "train"), (archive("stablesr-div2k"), "test"), False),
        ((archive("realsr-v3-x4"), "test"), (archive("stablesr-realsr"), "test"), True),
        ((archive("realsr-v3-x4"), "train"), (archive("stablesr-realsr"), "test"), False),
        ((own_pairs("lr", rule="first 1"), "test"), (own_pairs("other", "./hr"), "test"), True),
        ((own_pairs("lr", rule="first 1"), "test"), (own_pairs("lr", rule="last 1"), "test"), False),
        ((own_pairs("lr", rule="first 9"), "test"), (own_pairs("lr"), "test"), False),  # said when it is prepared
    ],
)
def test_splits_that_show_the_same_photographs_share_names(folder: Path, one: Any, other: Any, shared: bool) -> None:
    (folder / "hr/b.png").write_bytes(b"b")
    named = [kind_of(declared).photographs(declared, split) for declared, split in (one, other)]
    assert bool(named[0] & named[1]) == shared


def test_what_a_report_says_of_each_kind() -> None:
    samples = kind_of(SAMPLES).describe(SAMPLES)
    assert samples.source.startswith("photographs that ship with scikit-image ")
    assert ", scikit-learn " in samples.source
    assert samples.licence == "scikit-image: CC0 or public domain; scikit-learn: CC BY 2.0"
    declared = own_pairs("/home/somebody/lr")
    assert kind_of(declared).describe(declared) == Description("a folder of pairs", "not stated")
    row = Archive(kind="archive", row="stablesr-realsr")
    assert kind_of(row).describe(row).source.startswith("archive stablesr-realsr: ")


def test_every_kind_has_its_module_and_none_costs_torch() -> None:
    program = (
        "import importlib, sys\n"
        f"modules = [importlib.import_module(f'adaptsr.data.kinds.{{kind}}') for kind in {DATASET_KINDS}]\n"
        "functions = ('prepare', 'describe', 'estimate', 'listing', 'photographs')\n"
        "assert all(callable(getattr(module, name)) for module in modules for name in functions)\n"
        "assert importlib.import_module('adaptsr.data.catalogue').read_catalogue()\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_photographs_are_a_test_split_without_hr(tmp_path: Path) -> None:
    for name, size in (("b", (8, 12)), ("a", (16, 8))):
        write_png(tmp_path / f"photos/{name}.png", noise(name, *size))
    declared = Unpaired(kind="unpaired", lr=str(tmp_path / "photos"))
    manifest = prepare("camera", declared, tmp_path / "camera", 2)
    split = open_split(manifest, "test")
    split.check()
    assert (split.names, split.hr_sizes()) == (("a", "b"), [(32, 16), (16, 24)])
    loaded = split.load()
    assert ([tuple(image.shape) for image in loaded.lr], loaded.hr) == ([(3, 16, 8), (3, 8, 12)], [])
    (tmp_path / "photos/c.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"datasets\.camera: LR c\.png: unreadable"):
        prepare("camera", declared, tmp_path / "camera", 2)
    assert not manifest.exists()
