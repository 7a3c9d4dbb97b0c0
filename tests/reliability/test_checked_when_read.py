"""What was changed after it was written is found when it is read: refused by name or made again, never averaged in.

Each case changes a finished benchmark; what follows must end in the scores of before, or in one line with the file's name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch

from adaptsr.data.images import write_png
from adaptsr.files import file_sha256
from adaptsr.scoring.table import read_scores
from tests.factories import better, change_rows, cut, flipped, noise
from tests.reliability.conftest import ESTIMATE, GATHER, LIST, REPORT, SCORE_RUNS, SCORES, TABLE, Place, train_words

pytestmark = pytest.mark.slow

TRAIN = (*train_words("lora/r2", 1, 2), "--out", "results/demo/safmn/lora/r2/runs.1-2.json")
RUN = "results/demo/safmn/lora/r2/seed1"
OTHER = "results/demo/safmn/lora/r2/seed2"
WEIGHTS = f"{RUN}/adaptation.safetensors"
KEPT = f"{RUN}/scores/degraded.parquet"
MANIFEST = "resources/degraded/manifest.json"
BACKBONE_WEIGHTS = "resources/demo/safmn.safetensors"

Change = Callable[[Path], object]
Words = tuple[str, ...]


@pytest.fixture(scope="module")
def finished(prepared: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One backbone, one row, two seeds: trained, scored and reported."""
    place = prepared.copy("place", tmp_path_factory.mktemp("finished"))
    place.narrow("lora/r2")
    for words in (TRAIN, SCORE_RUNS, GATHER, REPORT):
        place.succeed(*words)
    return place


def content_of(name: str, change: Callable[[bytes], bytes]) -> Change:
    return lambda root: (root / name).write_bytes(change((root / name).read_bytes()))


def in_json(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    def changed(content: bytes) -> bytes:
        loaded = json.loads(content)
        change(loaded)
        return json.dumps(loaded).encode()

    return content_of(name, changed)


def in_record(**values: object) -> Change:
    return in_json(f"{RUN}/record.json", lambda content: content.update(values))


def first_test(**values: object) -> Change:
    return in_json(MANIFEST, lambda content: content["splits"]["test"][0].update(values))


def value_of(name: str) -> Change:
    return lambda root: change_rows(root / name, better)


def copied(source: str, target: str) -> Change:
    return lambda root: shutil.copy(root / source, root / target)


def removed(name: str) -> Change:
    return lambda root: (root / name).unlink()


def unscored(change: Change) -> Change:
    """The scores beside the run are gone, so that its weights have to be read."""

    def apply(root: Path) -> None:
        change(root)
        (root / KEPT).unlink()

    return apply


def image_replaced(root: Path) -> None:
    item = json.loads((root / MANIFEST).read_text())["splits"]["test"][0]
    write_png(root / "resources/degraded" / item["hr"], noise("another", 64, 64))


def training_images_cut(root: Path) -> None:
    for path in (root / "resources/degraded/train/hr").iterdir():
        path.write_bytes(path.read_bytes()[:-100])


def schedule_changed(root: Path) -> None:
    Place(root).change_training(iterations=7)


def everything_of_another_seed(root: Path) -> None:
    shutil.copytree(root / OTHER, root / RUN, dirs_exist_ok=True)


half = partial(cut, share=0.5)
ANOTHER_PROTOCOL = in_record(variant_key="0" * 64)
SAID_OF_PROTOCOL = f"{RUN}/record.json: a run of another protocol"
SAID_OF_WEIGHTS = f"{WEIGHTS}: not the weights that its record.json names"
SAID_OF_IMAGE = "the content differs from the manifest's checksum"

REFUSED: dict[str, tuple[Change, Words, str]] = {
    "scores of a run: a value": (value_of(KEPT), GATHER, f"{KEPT}: changed after it was written"),
    "scores of a run: torn": (content_of(KEPT, half), GATHER, f"{KEPT}: not a score file, or a torn one"),
    "scores of a run: gone": (removed(KEPT), GATHER, f"{KEPT}: no scores with the present weights"),
    "scores of a run: of another run": (copied(f"{OTHER}/scores/degraded.parquet", KEPT), GATHER, f"{KEPT}: no scores"),
    "all scores: a value": (value_of(SCORES), REPORT, f"{SCORES}: changed after it was written"),
    "record: another protocol": (ANOTHER_PROTOCOL, SCORE_RUNS, SAID_OF_PROTOCOL),
    "record: another protocol, reported by hand": (ANOTHER_PROTOCOL, REPORT, SAID_OF_PROTOCOL),
    "record: of another seed": (copied(f"{OTHER}/record.json", f"{RUN}/record.json"), SCORE_RUNS, SAID_OF_PROTOCOL),
    "record: torn": (content_of(f"{RUN}/record.json", half), SCORE_RUNS, f"{RUN}/record.json: not a run record"),
    "record: gone": (removed(f"{RUN}/record.json"), SCORE_RUNS, f"{RUN}/record.json: no such record"),
    "record: another checksum": (unscored(in_record(adaptation_sha256="0" * 64)), SCORE_RUNS, SAID_OF_WEIGHTS),
    "profile: another schedule, reported by hand": (schedule_changed, REPORT, "a run of another protocol, schedule"),
    "weights: one bit": (unscored(content_of(WEIGHTS, partial(flipped, place=-9))), SCORE_RUNS, SAID_OF_WEIGHTS),
    "weights: gone": (unscored(removed(WEIGHTS)), SCORE_RUNS, SAID_OF_WEIGHTS),
    "weights: of another seed, merged": (
        copied(f"{OTHER}/adaptation.safetensors", WEIGHTS),
        ("merge", RUN, "-o", "merged.safetensors"),
        SAID_OF_WEIGHTS,
    ),
    "plan: edited": (
        unscored(in_json(f"{RUN}/plan.json", lambda content: content.update(alpha=99))),
        SCORE_RUNS,
        f"{RUN}/plan.json: not the plan that its record.json names",
    ),
    "test image: replaced": (image_replaced, SCORE_RUNS, SAID_OF_IMAGE),
    "training images: cut": (training_images_cut, TRAIN, SAID_OF_IMAGE),
    "manifest: another checksum": (first_test(hr_sha256="0" * 64), SCORE_RUNS, SAID_OF_IMAGE),
    "manifest: a file elsewhere": (first_test(hr="/etc/hostname"), SCORE_RUNS, "/etc/hostname: the content differs"),
    "manifest: another scale": (in_json(MANIFEST, lambda c: c.update(scale=2)), SCORE_RUNS, "64x64"),
    "backbone: weights of something else": (
        copied(WEIGHTS, BACKBONE_WEIGHTS),
        TRAIN,
        f"{BACKBONE_WEIGHTS}: this checkpoint does not",
    ),
}

TRAINED_AGAIN = "lora/r2 seed 1: validation"
ALL = (TRAIN, SCORE_RUNS, GATHER)
REMADE: dict[str, tuple[Change, tuple[Words, ...], str]] = {
    "scores of a run: a value": (
        value_of(KEPT),
        ALL[1:],
        f"{KEPT}: changed after it was written: its rows differ from their checksum; scoring again",
    ),
    "scores of a run: torn": (content_of(KEPT, half), ALL[1:], "scoring again"),
    "scores of a run: of another run": (
        copied(f"{OTHER}/scores/degraded.parquet", KEPT),
        ALL[1:],
        "lora/r2 seed 1: scored",
    ),
    "scores of the unadapted: a value": (
        value_of("results/demo/safmn/unadapted/scores/degraded.parquet"),
        ALL[1:],
        "scoring again",
    ),
    "record: another protocol": (ANOTHER_PROTOCOL, ALL, TRAINED_AGAIN),
    "record: torn": (content_of(f"{RUN}/record.json", half), ALL, TRAINED_AGAIN),
    "weights: one bit": (content_of(WEIGHTS, partial(flipped, place=-9)), ALL, TRAINED_AGAIN),
    "plan: edited": (in_json(f"{RUN}/plan.json", lambda content: content.update(alpha=99)), ALL, TRAINED_AGAIN),
    "everything of a run: of another seed": (everything_of_another_seed, ALL, TRAINED_AGAIN),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(finished: Place, tmp_path: Path, case: str) -> None:
    change, words, said = REFUSED[case]
    place = finished.copy("place", tmp_path)
    output = place.root / {SCORE_RUNS: LIST, GATHER: SCORES, REPORT: TABLE}.get(words, "merged.safetensors")
    change(place.root)
    before = output.read_bytes() if output.exists() else None
    done = place.run(*words)
    assert done.status == 2, done.said
    assert said in done.mistake
    assert done.mistake.isprintable()
    assert (output.read_bytes() if output.exists() else None) == before, "what was there before still is"


@pytest.mark.parametrize("case", REMADE)
def test_remade(finished: Place, tmp_path: Path, case: str) -> None:
    change, commands, said = REMADE[case]
    place = finished.copy("place", tmp_path)
    change(place.root)
    heard = "".join(place.succeed(*words).said for words in commands)
    assert said in heard
    assert "seed 2" not in heard.replace("lora/r2 seed 2: scored", ""), "the other run is left alone"
    assert (place.root / SCORES).read_bytes() == (finished.root / SCORES).read_bytes()


def finished_runs(place: Place) -> int:
    return int(json.loads(place.succeed(*ESTIMATE).said)["backbones"][0]["finished"])


def test_runs_that_the_profile_no_longer_asks_for_are_none_of_its_finished_ones(
    finished: Place, tmp_path: Path
) -> None:
    """Neither in the plan nor in a report of what there is."""
    place = finished.copy("place", tmp_path)
    words = ("report", "--partial")
    page = place.root / "reports/demo/index.html"
    assert finished_runs(place) == 2
    place.succeed(*words)
    assert "All 2 runs are trained and scored." in page.read_text()
    place.write_profile(place.profile() | {"protocol": 2})
    assert finished_runs(place) == 0
    place.succeed(*words)
    assert "Of 2 runs, 0 are trained and scored" in page.read_text()
    assert "its folder holds a run of another protocol, schedule, data" in page.read_text()


def shift_weights(path: Path, shift: float) -> None:
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: value + shift for name, value in tensors.items()}, path)


def test_scores_and_pictures_are_of_weights_and_not_of_a_key(finished: Place, tmp_path: Path) -> None:
    """A run made again elsewhere has the key of before and may have other last bits: it is scored anew, not relabelled."""
    place = finished.copy("place", tmp_path)
    shift_weights(place.root / WEIGHTS, 1e-3)
    in_record(adaptation_sha256=file_sha256(place.root / WEIGHTS))(place.root)
    assert (
        f"{SCORES}: the scores of safmn/lora/r2/seed1 belong to weights that are missing or have changed"
        in place.run(*REPORT).mistake
    )
    said = place.succeed(*SCORE_RUNS).said
    assert "lora/r2 seed 1: scored" in said
    assert "lora/r2 seed 2: scored" not in said
    place.succeed(*GATHER)
    place.succeed(*REPORT)
    before, after = read_scores(finished.root / SCORES).rows, read_scores(place.root / SCORES).rows
    assert set(before.loc[before["value"] != after["value"], "seed"]) == {1}


def test_other_images_make_other_keys(finished: Place, tmp_path: Path) -> None:
    """A manifest that names another image, with that image's checksum: everything made with the old one is stale."""
    place = finished.copy("place", tmp_path)
    splits = json.loads((place.root / MANIFEST).read_text())["splits"]
    image = "lr", "hr", "lr_sha256", "hr_sha256"
    first_test(**{key: splits["train"][0][key] for key in image})(place.root)
    assert place.succeed(*SCORE_RUNS).said.count(": scored") == 3
    assert "are training images too" in place.run(*TRAIN).mistake
    first_test(**{key: splits["test"][0][key] for key in image})(place.root)
    in_json(MANIFEST, lambda content: content["splits"]["train"][0].update(scene="another"))(place.root)
    assert "a run of another protocol, schedule, data, weights or options" in place.run(*SCORE_RUNS).mistake
    assert place.succeed(*TRAIN).said.count("validation PSNR-Y") > 0


def test_other_weights_of_the_backbone_make_other_keys(finished: Place, tmp_path: Path) -> None:
    """The same path, another content: the unadapted backbone is scored again, and its runs are refused."""
    place = finished.copy("place", tmp_path)
    shift_weights(place.root / BACKBONE_WEIGHTS, 1e-3)
    done = place.run(*SCORE_RUNS)
    assert "safmn unadapted: scored" in done.said
    assert "seed1/record.json: a run of another protocol, schedule, data, weights or options" in done.mistake
