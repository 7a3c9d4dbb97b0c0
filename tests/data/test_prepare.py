"""Datasets are prepared whole or not at all, and what is wrong with them is said by file name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from adaptsr.config.schema import Data, Degradation, Pairs, SampleImages
from adaptsr.data import patches as patches_module
from adaptsr.data.degradation import bicubic
from adaptsr.data.images import read_image, to_float, to_uint8, write_png
from adaptsr.data.kinds.pairs import split_names
from adaptsr.data.manifest import read_manifest
from adaptsr.data.patches import detail, most_detailed_patches
from adaptsr.data.prepare import check_apart, check_crop, prepare
from adaptsr.data.store import load_split
from tests.camera.scenes import scene
from tests.factories import noise, pairs_of, refusal, tree, write_pairs


def sample_images(**changes: object) -> SampleImages:
    content: dict[str, object] = {
        "kind": "sample_images",
        "scenes": {
            "train": ["skimage/astronaut.png", "pyiqa/I19.bmp"],
            "test": ["skimage/motorcycle_left.png+skimage/motorcycle_right.png", "matplotlib/grace_hopper.jpg"],
        },
        "patch": 64,
        "patches_per_scene": {"train": 3, "validation": 1, "test": 2},
        "degradation": "bicubic",
    }
    return SampleImages.model_validate(content | changes)


def own_pairs(root: Path, names: list[str]) -> Pairs:
    write_pairs(root, names, lr=(6, 7))
    return pairs_of(root, train="rest", test="last 1")


class TestSampleImages:
    def test_patches_and_manifest(self, tmp_path: Path) -> None:
        manifest = read_manifest(prepare("demo", sample_images(), tmp_path, 4))
        assert {split: len(items) for split, items in manifest.splits.items()} == {"train": 6, "test": 6}
        files = {path for part in manifest.splits.values() for item in part for path in (item.lr, item.hr)}
        assert "test (at most 2 of each photograph): motorcycle_left, grace_hopper" in manifest.split_rule
        assert tree(tmp_path).keys() == files | {"manifest.json"}
        test = load_split(tmp_path / "manifest.json", "test")
        assert test.scenes == ("motorcycle_left",) * 4 + ("grace_hopper",) * 2
        assert [name.rsplit("-", 2)[0] for name in test.names][1:3] == ["motorcycle_left", "motorcycle_right"]
        assert all(hr.shape == (3, 64, 64) for hr in test.hr)
        assert all(lr.shape == (3, 16, 16) for lr in test.lr)

    def test_patches_are_where_their_names_say(self, tmp_path: Path) -> None:
        from skimage import data

        prepare("demo", sample_images(), tmp_path, 4)
        train = load_split(tmp_path / "manifest.json", "train")
        name, row, column = train.names[0].split("-")
        assert name == "astronaut"
        top, left = int(row) * 64, int(column) * 64
        expected = torch.from_numpy(data.astronaut())[top : top + 64, left : left + 64].permute(2, 0, 1)
        assert torch.equal(train.hr[0], expected)
        assert torch.equal(train.lr[0], to_uint8(bicubic(to_float(train.hr[0]).unsqueeze(0), 4))[0])

    def test_twice_the_same_bytes(self, tmp_path: Path) -> None:
        config = sample_images(degradation=Degradation(), patches_per_scene={"train": 2, "test": 1})
        for name in ("one", "two"):
            prepare("demo", config, tmp_path / name, 4)
        assert tree(tmp_path / "one") == tree(tmp_path / "two")

    def test_degradation_depends_on_its_seed_and_only_lr_does(self, tmp_path: Path) -> None:
        for seed in (0, 1):
            prepare("demo", sample_images(degradation=Degradation(), seed=seed), tmp_path / str(seed), 4)
        first, second = (load_split(tmp_path / str(seed) / "manifest.json", "train") for seed in (0, 1))
        assert all(torch.equal(one, other) for one, other in zip(first.hr, second.hr, strict=True))
        assert not any(torch.equal(one, other) for one, other in zip(first.lr, second.lr, strict=True))

    def test_killed_in_the_middle_there_is_no_manifest_and_the_next_call_cleans_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prepare("demo", sample_images(), tmp_path, 4)
        whole = tree(tmp_path)
        written = 0

        def killed(path: Path, image: torch.Tensor) -> None:
            nonlocal written
            written += 1
            if written > 5:
                raise KeyboardInterrupt
            write_png(path, image)

        with monkeypatch.context() as context:
            context.setattr(patches_module, "write_png", killed)
            with pytest.raises(KeyboardInterrupt):
                prepare("demo", sample_images(), tmp_path, 4)
        assert not (tmp_path / "manifest.json").exists()
        (tmp_path / "train/hr/leftover.png").write_bytes(b"")
        (tmp_path / "validation").mkdir()
        (tmp_path / ".manifest.json.abc.tmp.json").write_bytes(b"")
        prepare("demo", sample_images(), tmp_path, 4)
        assert tree(tmp_path) == whole
        assert not (tmp_path / "validation").exists()

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"scenes": {"train": ["skimage/astronaut.jpg"]}}, r"scenes\.train: .*did you mean 'astronaut\.png'"),
            ({"scenes": {"train": ["scipy/face.png"]}}, "matplotlib, pyiqa, skimage, sklearn"),
            (
                {"scenes": {"train": ["pyiqa/I99.bmp"]}},
                r"ships no 'I99\.bmp'.*I03\.bmp, I04\.bmp, I06\.bmp, I08\.bmp, I19\.bmp",
            ),
            ({"scenes": {"train": ["skimage/../data/coffee.png"]}}, "invalid photograph"),
            (
                {"scenes": {"train": ["skimage/coffee.png"], "test": ["skimage/coffee.png"]}},
                r"test: 'coffee' is listed tw",
            ),
            ({"scenes": {"train": ["skimage/camera.png"]}}, r"camera\.png: a grey image"),
            ({"patch": 66}, r"datasets\.demo\.patch: 66 is not a multiple of the scale 4"),
            ({"patch": 2000}, "smaller than a patch of 2000"),
            ({"patches_per_scene": {"train": 1}}, r"patches_per_scene: missing for the split 'test'"),
        ],
    )
    def test_mistakes_are_named(self, tmp_path: Path, changes: dict[str, object], said: str) -> None:
        assert re.search(said, refusal(lambda: prepare("demo", sample_images(**changes), tmp_path, 4)))
        assert not (tmp_path / "manifest.json").exists()


def test_the_most_detailed_patches_are_kept_in_the_order_of_the_grid() -> None:
    image = torch.zeros(3, 20, 30, dtype=torch.uint8)
    image[:, :10, 20:30] = noise(0, 10, 10)
    image[:, 10:20, :10] = noise(1, 10, 10) // 2
    assert [patch.name for patch in most_detailed_patches(image, "x", 10, 2)] == ["x-0-2", "x-1-0"]
    assert [patch.name for patch in most_detailed_patches(image, "x", 10, 1)] == ["x-0-2"]
    assert len(most_detailed_patches(image, "x", 10, 99)) == 6


def test_detail_of_a_ramp_is_its_slope() -> None:
    rows, columns = torch.meshgrid(torch.arange(9) * 3, torch.arange(9) * 4, indexing="ij")
    assert detail((rows + columns).to(torch.uint8).expand(3, 9, 9)) == pytest.approx(5.0)


class TestPairs:
    def test_nothing_is_copied_and_the_pairs_load(self, tmp_path: Path) -> None:
        config = own_pairs(tmp_path / "own", ["b", "a", "c"])
        path = prepare("own", config, tmp_path / "out", 4)
        assert tree(tmp_path / "out").keys() == {"manifest.json"}
        train, test = load_split(path, "train"), load_split(path, "test")
        assert (train.names, test.names) == (("a", "b"), ("c",))
        assert test.scenes == ("c",)
        assert torch.equal(test.hr[0], read_image(tmp_path / "own/hr/c.png"))
        assert "test takes 'last 1' (1 pairs)" in read_manifest(path).split_rule

    def test_own_pairs_below_the_prepared_folder_are_left_alone(self, tmp_path: Path) -> None:
        config = own_pairs(tmp_path / "train", ["a", "b"])
        for _ in range(2):
            prepare("own", config, tmp_path, 4)
        assert load_split(tmp_path / "manifest.json", "train").names == ("a",)

    def test_everything_wrong_is_said_at_once_by_file_name(self, tmp_path: Path) -> None:
        config = own_pairs(tmp_path, ["fine", "size", "multiple", "scale2", "deep", "fine2"])
        write_png(tmp_path / "hr/size.png", noise(1, 24, 24))
        write_png(tmp_path / "hr/multiple.png", noise(2, 25, 28))
        write_png(tmp_path / "hr/scale2.png", noise(3, 12, 14))
        Image.new("I;16", (28, 24)).save(tmp_path / "hr/deep.png")
        (tmp_path / "lr/notes.txt").write_text("hello")
        message = refusal(lambda: prepare("own", config, tmp_path / "out", 4))
        for expected in (
            "5 problems",
            "HR size.png: 24x24 beside LR 7x6: the sizes do not match",
            "HR multiple.png: 28x25 beside LR 7x6: HR is not a multiple of the scale 4",
            "HR scale2.png: 14x12 beside LR 7x6 is a scale of 2, but the profile has 4",
            "HR deep.png: a 16-bit image",
            "LR notes.txt: not an image",
        ):
            assert expected in message
        assert "fine" not in message
        assert not (tmp_path / "out/manifest.json").exists()

    def test_one_image_under_two_names_may_not_stand_in_two_splits(self, tmp_path: Path) -> None:
        config = own_pairs(tmp_path, ["a", "b"])
        for side in ("lr", "hr"):
            shutil.copy(tmp_path / side / "a.png", tmp_path / side / "b.png")
        message = refusal(lambda: prepare("own", config, tmp_path / "out", 4))
        assert "HR b (test) and a (train): have the same pixels" in message


NAMES = [f"{camera}_{index:02d}" for camera in ("Canon", "Nikon") for index in range(6)]


class TestSplitNames:
    @pytest.mark.parametrize(
        ("rule", "expected"),
        [
            ("all", NAMES),
            ("none", []),
            ("first 2", NAMES[:2]),
            ("last 3", NAMES[-3:]),
            ("last 0", []),
            ("2 last of each camera", NAMES[4:6] + NAMES[10:]),
            ("1 first of each lens", [NAMES[0], NAMES[6]]),
            ("rest", NAMES),
            (" first 1 ", NAMES[:1]),
        ],
    )
    def test_rules(self, rule: str, expected: list[str]) -> None:
        assert split_names(NAMES, {"train": rule}) == {"train": expected}

    def test_names_without_a_group_are_one_group(self) -> None:
        names = ["001", "002", "003", "004"]
        assert split_names(names, {"train": "rest", "test": "2 last of each camera"})["train"] == names[:2]

    def test_a_part_of_what_other_splits_leave(self) -> None:
        """Few pairs and more of them, with the same pairs for testing and validation."""
        fixed = {"validation": "1 first of each camera", "test": "last 4"}
        few, more = (split_names(NAMES, {"train": f"first {n} of rest", **fixed}) for n in (2, 4))  # type: ignore[dict-item]
        assert few["train"] == NAMES[1:3]
        assert more["train"] == NAMES[1:5]
        assert few["test"] == more["test"] == NAMES[8:]
        each = split_names(NAMES, {"train": "1 last of each camera of rest", **fixed})  # type: ignore[dict-item]
        assert each["train"] == [NAMES[5], NAMES[7]]

    @given(st.integers(0, 3), st.integers(0, 3), st.sampled_from(["train", "validation"]))
    def test_with_rest_every_pair_is_taken_once(self, first: int, last: int, resting: str) -> None:
        other = "validation" if resting == "train" else "train"
        rules = {resting: "rest", other: f"{first} first of each camera", "test": f"{last} last of each camera"}
        splits = split_names(NAMES, rules)  # type: ignore[arg-type]
        assert sorted(name for part in splits.values() for name in part) == NAMES
        assert list(splits) == list(rules)

    @pytest.mark.parametrize(
        ("rules", "said"),
        [
            ({"train": "frist 3"}, r"x\.train: unknown rule 'frist 3'; allowed are `all`"),
            ({"train": "first -1"}, "unknown rule 'first -1'"),
            ({"train": "last 13"}, "needs 13 pairs, found 12"),
            ({"test": "7 last of each camera"}, "camera 'Canon': needs 7 pairs, found 6"),
            ({"train": "all", "test": "last 2"}, r"train \('all'\) and test \('last 2'\) both take 2 of 12"),
            ({"train": "rest", "test": "rest"}, "both take 12"),
            ({"train": "first 5 of rest", "test": "last 8"}, r"x\.train: 'first 5': needs 5 pairs, found 4"),
            ({"train": "rest of rest"}, "unknown rule 'rest'"),
        ],
    )
    def test_mistakes_are_named(self, rules: dict[str, str], said: str) -> None:
        assert re.search(said, refusal(lambda: split_names(NAMES, rules, "x")))  # type: ignore[arg-type]


def test_a_crop_that_is_larger_than_images_is_said_with_their_names(tmp_path: Path) -> None:
    config = own_pairs(tmp_path, [*"abcdef"])
    manifest = prepare("own", config, tmp_path / "out", 4)
    check_crop(manifest, "train", 24)
    said = "training.crop: 28 is larger than 5 of 5 HR images of dataset 'own', split train: 'a' (28x24), 'b' (28x24), "
    assert said in refusal(lambda: check_crop(manifest, "train", 28))


def test_one_photograph_in_two_datasets_is_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, stems in (("one", "ab"), ("two", "bc")):
        config = own_pairs(tmp_path / name, [*stems])
        prepare(name, config.model_copy(update={"split": {"train": "all"}}), Path("resources") / name, 4)

    def data(test: str) -> Data:
        part = {"dataset": test, "split": "train"}
        return Data.model_validate({"train": [{"dataset": "one"}], "validation": {"dataset": "gone"}, "test": [part]})

    check_apart(data("gone"))
    check_apart(data("one"))
    said = "data: 1 of 2 images of two, split train, are training images too: b (one b)"
    assert said in refusal(lambda: check_apart(data("two")))


def test_a_burst_in_a_folder_of_pairs_is_one_scene_where_it_is_tested(tmp_path: Path) -> None:
    """Frames of one place do not stand for other places, whatever they are called."""
    for number in range(8):
        hr = scene(number // 4, 96, 136)[:, :, 4 * (number % 4) : 4 * (number % 4) + 96].to(torch.uint8)
        write_png(tmp_path / f"hr/P{number}.png", hr)
        write_png(tmp_path / f"lr/P{number}.png", to_uint8(bicubic(to_float(hr)[None], 4)[0]))
    declared = pairs_of(tmp_path, train="none", test="all")
    made = read_manifest(prepare("burst", declared, tmp_path / "prepared", 4))
    assert [item.scene for item in made.splits["test"]] == ["P0"] * 4 + ["P4"] * 4
    trained = read_manifest(prepare("burst", pairs_of(tmp_path, train="all"), tmp_path / "prepared", 4))
    assert [item.scene for item in trained.splits["train"]] == [f"P{number}" for number in range(8)]
