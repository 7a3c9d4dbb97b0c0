"""What was changed after it was written is found when it is read: refused by name or made again, never averaged in.

Each case changes a finished benchmark; what follows must end in the scores of before, or in one line with the file's name.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet
import pytest
from PIL import Image

from adaptsr.errors import UserError
from adaptsr.files import file_sha256
from adaptsr.scoring.table import kept_scores, read_scores, write_scores
from tests.reliability.conftest import Place, train_words

pytestmark = pytest.mark.slow

EVALUATE = ["score-runs", "--backbone", "safmn", "--out", "results/demo/scores/safmn.parquet"]
GATHER = ["gather", "results/demo/scores/safmn.parquet", "--out", "results/demo/scores.parquet"]
REPORT = ["report", "table2"]
TRAIN = [*train_words("lora/r2", 1, 2), "--out", "results/demo/safmn/lora/r2/runs.1-2.json"]
SCORES = "results/demo/scores.parquet"
PART = "results/demo/scores/safmn.parquet"
RUN = "results/demo/safmn/lora/r2/seed1"
OTHER = "results/demo/safmn/lora/r2/seed2"
TABLE = "reports/demo/table2.csv"

Change = Callable[[Path], object]


@pytest.fixture(scope="module")
def finished(prepared: Place, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One backbone, one row, two seeds: trained, scored and reported."""
    place = prepared.copy(tmp_path_factory.mktemp("finished") / "place")
    content = place.profile()
    content["backbones"] = {"safmn": content["backbones"]["safmn"]}
    content["baselines"]["rank_aware"]["rows"] = content["baselines"]["full_finetuning"]["rows"] = []
    content["baselines"]["lora"]["rows"] = ["r2"]
    content["report"]["tables"] = {"table2": {"title": "Table", "rows": ["unadapted", "*/*"]}}
    place.write_profile(content)
    for words in (TRAIN, EVALUATE, GATHER, REPORT):
        place.succeed(*words)
    return place


def in_json(name: str, change: Callable[[dict[str, Any]], object]) -> Change:
    def apply(root: Path) -> None:
        content = json.loads((root / name).read_text())
        change(content)
        (root / name).write_text(json.dumps(content))

    return apply


def rows_changed(name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> Change:
    """Edit the rows of a file of scores as one does by hand, with pandas: what we wrote about them goes along."""

    def apply(root: Path) -> None:
        table = pyarrow.parquet.read_table(root / name)
        changed = pyarrow.Table.from_pandas(
            change(table.to_pandas()), schema=table.schema.remove_metadata(), preserve_index=False
        )
        pyarrow.parquet.write_table(changed.replace_schema_metadata(table.schema.metadata), root / name)

    return apply


def better(frame: pd.DataFrame) -> pd.DataFrame:
    """A little, for one image only."""
    return frame.assign(value=frame["value"].where(frame.index != 0, frame["value"] + 1e-9))


def rewritten(name: str) -> Change:
    """By pandas, which knows nothing of what we write about the rows."""
    return lambda root: better(pd.read_parquet(root / name)).to_parquet(root / name)


def cut(name: str, share: float = 0.5) -> Change:
    def apply(root: Path) -> None:
        content = (root / name).read_bytes()
        (root / name).write_bytes(content[: int(share * len(content))])

    return apply


def flip(name: str) -> Change:
    def apply(root: Path) -> None:
        content = bytearray((root / name).read_bytes())
        content[-9] ^= 1
        (root / name).write_bytes(content)

    return apply


def copied(source: str, target: str) -> Change:
    return lambda root: shutil.copy(root / source, root / target)


def removed(name: str) -> Change:
    return lambda root: (root / name).unlink()


def both(*changes: Change) -> Change:
    def apply(root: Path) -> None:
        for change in changes:
            change(root)

    return apply


def unscored(change: Change) -> Change:
    """The scores beside the run are gone, so that its weights have to be read."""
    return both(change, removed(f"{RUN}/scores.parquet"))


def an_image(root: Path) -> Path:
    item = json.loads((root / "resources/degraded/manifest.json").read_text())["splits"]["test"][0]
    return root / "resources/degraded" / str(item["hr"])


def image_cut(root: Path) -> None:
    path = an_image(root)
    path.write_bytes(path.read_bytes()[:-100])


def image_replaced(root: Path) -> None:
    path = an_image(root)
    with Image.open(path) as image:
        pixels = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    pixels.save(path)


def first_test(key: str, value: object) -> Change:
    return in_json(
        "resources/degraded/manifest.json", lambda content: content["splits"]["test"][0].update({key: value})
    )


def profile_changed(change: Callable[[dict[str, Any]], object]) -> Change:
    def apply(root: Path) -> None:
        content = Place(root).profile()
        change(content)
        Place(root).write_profile(content)

    return apply


def other_weights(root: Path) -> None:
    """The profile is the same, but the checkpoint it names is another one."""
    shutil.copy(root / f"{RUN}/adaptation.safetensors", root / "resources/demo/safmn.safetensors")


REFUSED: dict[str, tuple[Change, list[str], str]] = {
    "scores of a backbone: a value": (rows_changed(PART, better), GATHER, f"{PART}: changed after it was written"),
    "scores of a backbone: a row less": (rows_changed(PART, lambda f: f.iloc[1:]), GATHER, f"{PART}: changed after"),
    "scores of a backbone: a row twice": (
        rows_changed(PART, lambda f: pd.concat([f, f.iloc[:1]])),
        GATHER,
        f"{PART}: changed after",
    ),
    "scores of a backbone: another seed": (
        rows_changed(PART, lambda f: f.assign(seed=f["seed"].replace(1, 3))),
        GATHER,
        f"{PART}: changed after",
    ),
    "scores of a backbone: by pandas": (rewritten(PART), GATHER, f"{PART}: no file of scores"),
    "scores of a backbone: torn": (cut(PART), GATHER, f"{PART}: no file of scores, or a torn one"),
    "scores of a backbone: empty": (cut(PART, 0), GATHER, f"{PART}: no file of scores, or a torn one"),
    "scores of a backbone: gone": (removed(PART), GATHER, f"{PART}: no such file of scores"),
    "all scores: a value": (rows_changed(SCORES, better), REPORT, f"{SCORES}: changed after it was written"),
    "all scores: rows in another order": (
        rows_changed(SCORES, lambda f: f.iloc[::-1]),
        REPORT,
        f"{SCORES}: changed after it was written",
    ),
    "all scores: by pandas": (rewritten(SCORES), REPORT, f"{SCORES}: no file of scores"),
    "all scores: torn": (cut(SCORES), REPORT, f"{SCORES}: no file of scores, or a torn one"),
    "record: another protocol": (
        in_json(f"{RUN}/record.json", lambda c: c.update(job="0" * 64)),
        EVALUATE,
        f"{RUN}/record.json: a run of another protocol",
    ),
    "record: another protocol, reported by hand": (
        in_json(f"{RUN}/record.json", lambda c: c.update(job="0" * 64)),
        REPORT,
        f"{RUN}/record.json: a run of another protocol",
    ),
    "record: of another seed, reported by hand": (
        copied(f"{OTHER}/record.json", f"{RUN}/record.json"),
        REPORT,
        f"{RUN}/record.json: a run of another protocol",
    ),
    "record: gone, reported by hand": (
        removed(f"{RUN}/record.json"),
        REPORT,
        f"{SCORES}: the scores of safmn/lora/r2/seed1 belong to weights that are missing or have changed",
    ),
    "record: other weights than were scored": (
        in_json(f"{RUN}/record.json", lambda c: c.update(adaptation_sha256="0" * 64)),
        REPORT,
        f"{SCORES}: the scores of safmn/lora/r2/seed1 belong to weights that are missing or have changed",
    ),
    "profile: another protocol, reported by hand": (
        profile_changed(lambda c: c.update(protocol=2)),
        REPORT,
        "a run of another protocol, schedule, data or options",
    ),
    "profile: another schedule, reported by hand": (
        profile_changed(lambda c: c["training"].update(iterations=7)),
        REPORT,
        "a run of another protocol, schedule, data or options",
    ),
    "profile: another crop, reported by hand": (
        profile_changed(lambda c: c["scoring"].update(crop_border=4)),
        REPORT,
        f"{SCORES}: made with other conventions of psnr_y",
    ),
    "manifest: other test images, reported by hand": (
        first_test("hr_sha256", "0" * 64),
        REPORT,
        f"{SCORES}: made with other images of degraded/test",
    ),
    "record: of another seed": (
        copied(f"{OTHER}/record.json", f"{RUN}/record.json"),
        EVALUATE,
        f"{RUN}/record.json: a run of another protocol",
    ),
    "record: torn": (cut(f"{RUN}/record.json"), EVALUATE, f"{RUN}/record.json: not a run record"),
    "record: gone": (removed(f"{RUN}/record.json"), EVALUATE, f"{RUN}/record.json: no such record"),
    "record: a number in words": (
        in_json(f"{RUN}/record.json", lambda c: c.update(trainable_parameters="few")),
        EVALUATE,
        f"{RUN}/record.json: not a run record: trainable_parameters",
    ),
    "record: another checksum": (
        unscored(in_json(f"{RUN}/record.json", lambda c: c.update(adaptation_sha256="0" * 64))),
        EVALUATE,
        f"{RUN}/adaptation.safetensors: not the weights that its record.json names",
    ),
    "weights: of another seed": (
        unscored(copied(f"{OTHER}/adaptation.safetensors", f"{RUN}/adaptation.safetensors")),
        EVALUATE,
        f"{RUN}/adaptation.safetensors: not the weights that its record.json names",
    ),
    "weights: one bit": (
        unscored(flip(f"{RUN}/adaptation.safetensors")),
        EVALUATE,
        f"{RUN}/adaptation.safetensors: not the weights",
    ),
    "weights: torn": (
        unscored(cut(f"{RUN}/adaptation.safetensors")),
        EVALUATE,
        f"{RUN}/adaptation.safetensors: not the weights",
    ),
    "weights: gone": (
        unscored(removed(f"{RUN}/adaptation.safetensors")),
        EVALUATE,
        f"{RUN}/adaptation.safetensors: not the weights",
    ),
    "plan: edited": (
        unscored(in_json(f"{RUN}/plan.json", lambda c: c.update(alpha=99))),
        EVALUATE,
        f"{RUN}/plan.json: not the plan that its record.json names",
    ),
    "plan: gone": (unscored(removed(f"{RUN}/plan.json")), EVALUATE, f"{RUN}/plan.json: not the plan"),
    "run merged: weights of another seed": (
        copied(f"{OTHER}/adaptation.safetensors", f"{RUN}/adaptation.safetensors"),
        ["merge", RUN, "-o", "merged.safetensors"],
        f"{RUN}/adaptation.safetensors: not the weights",
    ),
    "test image: cut": (image_cut, EVALUATE, "the content differs from the manifest's checksum"),
    "test image: replaced": (image_replaced, EVALUATE, "the content differs from the manifest's checksum"),
    "test image: gone": (
        lambda root: an_image(root).unlink(),
        EVALUATE,
        "this image of the manifest is missing",
    ),
    "test image: cut, before training": (
        lambda root: [
            path.write_bytes(path.read_bytes()[:-100]) for path in (root / "resources/degraded/train/hr").iterdir()
        ],
        TRAIN,
        "the content differs from the manifest's checksum",
    ),
    "manifest: another checksum": (
        first_test("hr_sha256", "0" * 64),
        EVALUATE,
        "the content differs from the manifest's",
    ),
    "manifest: a file elsewhere": (first_test("hr", "/etc/hostname"), EVALUATE, "/etc/hostname: the content differs"),
    "manifest: LR for HR": (first_test("hr", "test/lr/nowhere.png"), EVALUATE, "the manifest names this image"),
    "manifest: torn": (
        cut("resources/degraded/manifest.json"),
        EVALUATE,
        "resources/degraded/manifest.json: not valid JSON",
    ),
    "manifest: another scale": (
        in_json("resources/degraded/manifest.json", lambda c: c.update(scale=2)),
        EVALUATE,
        "is not 2 times",
    ),
    "backbone: weights that are none": (
        other_weights,
        TRAIN,
        "resources/demo/safmn.safetensors: this checkpoint does not",
    ),
}

REMADE: dict[str, tuple[Change, list[list[str]], str]] = {
    "scores of a run: a value": (
        rows_changed(f"{RUN}/scores.parquet", better),
        [EVALUATE, GATHER],
        f"{RUN}/scores.parquet: changed after it was written: its rows differ from their checksum; scoring again",
    ),
    "scores of a run: a row less": (
        rows_changed(f"{RUN}/scores.parquet", lambda f: f.iloc[1:]),
        [EVALUATE, GATHER],
        "scoring again",
    ),
    "scores of a run: by pandas": (rewritten(f"{RUN}/scores.parquet"), [EVALUATE, GATHER], "scoring again"),
    "scores of a run: torn": (cut(f"{RUN}/scores.parquet"), [EVALUATE, GATHER], "scoring again"),
    "scores of a run: of another run": (
        copied(f"{OTHER}/scores.parquet", f"{RUN}/scores.parquet"),
        [EVALUATE, GATHER],
        "lora/r2 seed 1: scored",
    ),
    "scores of the unadapted: a value": (
        rows_changed("results/demo/safmn/unadapted/scores.parquet", better),
        [EVALUATE, GATHER],
        "scoring again",
    ),
    "record: another protocol, trained again": (
        in_json(f"{RUN}/record.json", lambda c: c.update(job="0" * 64)),
        [TRAIN, EVALUATE, GATHER],
        "lora/r2 seed 1: validation",
    ),
    "record: torn, trained again": (cut(f"{RUN}/record.json"), [TRAIN, EVALUATE, GATHER], "lora/r2 seed 1: validation"),
    "weights: one bit, trained again": (
        flip(f"{RUN}/adaptation.safetensors"),
        [TRAIN, EVALUATE, GATHER],
        "lora/r2 seed 1: validation",
    ),
    "plan: edited, trained again": (
        in_json(f"{RUN}/plan.json", lambda c: c.update(alpha=99)),
        [TRAIN, EVALUATE, GATHER],
        "lora/r2 seed 1: validation",
    ),
    "everything of a run: of another seed": (
        lambda root: [copied(str(p), f"{RUN}/{p.name}")(root) for p in (root / OTHER).iterdir() if p.is_file()],
        [TRAIN, EVALUATE, GATHER],
        "lora/r2 seed 1: validation",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(finished: Place, tmp_path: Path, case: str) -> None:
    change, words, said = REFUSED[case]
    place = finished.copy(tmp_path / "place")
    output = place.root / {"score-runs": PART, "gather": SCORES, "report": TABLE}.get(words[0], "merged.safetensors")
    before = output.read_bytes() if output.exists() else None
    change(place.root)
    done = place.run(*words)
    assert done.status == 2, done.said
    assert said in done.mistake
    assert done.mistake.isprintable()
    if words[0] != "gather" or "scores of" in case:
        assert (output.read_bytes() if output.exists() else None) == before, "what was there before still is"


@pytest.mark.parametrize("case", REMADE)
def test_remade(finished: Place, tmp_path: Path, case: str) -> None:
    change, commands, said = REMADE[case]
    place = finished.copy(tmp_path / "place")
    change(place.root)
    heard = "".join(place.succeed(*words).said for words in commands)
    assert said in heard
    assert "seed 2" not in heard.replace("lora/r2 seed 2: scored", ""), "the other run is left alone"
    assert (place.root / SCORES).read_bytes() == (finished.root / SCORES).read_bytes()


def test_runs_that_the_profile_no_longer_asks_for_are_none_of_its_finished_ones(
    finished: Place, tmp_path: Path
) -> None:
    """Neither in the plan nor in a report of what there is."""
    place = finished.copy(tmp_path / "place")
    words = ("report", "--partial")
    assert (
        json.loads(place.succeed("estimate", "--profile", "config/demo.yaml", "--json").said)["backbones"][0][
            "finished"
        ]
        == 2
    )
    place.succeed(*words)
    assert "All 2 runs are trained and scored." in (place.root / "reports/demo/index.html").read_text()
    profile_changed(lambda c: c.update(protocol=2))(place.root)
    assert (
        json.loads(place.succeed("estimate", "--profile", "config/demo.yaml", "--json").said)["backbones"][0][
            "finished"
        ]
        == 0
    )
    place.succeed(*words)
    page = (place.root / "reports/demo/index.html").read_text()
    assert "Of 2 runs, 0 are trained and scored" in page
    assert "its folder holds a run of another protocol, schedule, data or options" in page


def test_scores_and_pictures_are_of_weights_and_not_of_a_key(finished: Place, tmp_path: Path) -> None:
    """A run made again elsewhere has the key of before and may have other last bits: it is scored anew, not relabelled."""
    import safetensors.torch

    place = finished.copy(tmp_path / "place")
    weights = place.root / RUN / "adaptation.safetensors"
    tensors = safetensors.torch.load_file(weights)
    safetensors.torch.save_file({name: value + 1e-3 for name, value in tensors.items()}, weights)
    in_json(f"{RUN}/record.json", lambda c: c.update(adaptation_sha256=file_sha256(weights)))(place.root)
    assert (
        f"{SCORES}: the scores of safmn/lora/r2/seed1 belong to weights that are missing or have changed"
        in place.run(*REPORT).mistake
    )
    said = place.succeed(*EVALUATE).said
    assert "lora/r2 seed 1: scored" in said
    assert "lora/r2 seed 2: scored" not in said
    place.succeed(*GATHER)
    place.succeed(*REPORT)
    before, after = read_scores(finished.root / SCORES).rows, read_scores(place.root / SCORES).rows
    assert set(before.loc[before["value"] != after["value"], "seed"]) == {1}


def test_other_images_make_other_keys(finished: Place, tmp_path: Path) -> None:
    """A manifest that names another image, with that image's checksum: everything made with the old one is stale."""
    place = finished.copy(tmp_path / "place")
    path = place.root / "resources/degraded/manifest.json"
    content = json.loads(path.read_text())
    content["splits"]["test"][0].update(
        {key: content["splits"]["train"][0][key] for key in ("lr", "hr", "lr_sha256", "hr_sha256")}
    )
    path.write_text(json.dumps(content))
    assert place.succeed(*EVALUATE).said.count(": scored") == 3
    content["splits"]["train"][0]["scene"] = "another"
    path.write_text(json.dumps(content))
    assert "a run of another protocol, schedule, data or options" in place.run(*EVALUATE).mistake
    assert place.succeed(*TRAIN).said.count("validation PSNR-Y") > 0


def test_other_weights_of_the_backbone_make_other_keys(finished: Place, tmp_path: Path) -> None:
    """The same path, another content: the unadapted backbone is scored again, and its runs are refused."""
    place = finished.copy(tmp_path / "place")
    import safetensors.torch

    path = place.root / "resources/demo/safmn.safetensors"
    tensors = safetensors.torch.load_file(path)
    safetensors.torch.save_file({name: value * 1.01 for name, value in tensors.items()}, path)
    done = place.run(*EVALUATE)
    assert "safmn unadapted: scored" in done.said
    assert "seed1/record.json: a run of another protocol, schedule, data or options" in done.mistake


def test_the_checksum_is_of_the_rows_alone(finished: Place, tmp_path: Path) -> None:
    """The same rows under another key are sound, and kept under no other."""
    frame, fingerprint, _ = read_scores(finished.root / SCORES)
    write_scores(frame, tmp_path / "a.parquet", fingerprint, "a")
    assert read_scores(tmp_path / "a.parquet").rows.equals(frame)
    assert kept_scores(tmp_path / "a.parquet", "b") is None
    found = kept_scores(tmp_path / "a.parquet", "a")
    assert found is not None
    assert found.equals(frame)
    assert kept_scores(tmp_path / "nowhere.parquet", "a") is None
    with pytest.raises(UserError, match=r"nowhere\.parquet: no such file"):
        read_scores(tmp_path / "nowhere.parquet")
