"""Test images are scored in groups: nothing is computed twice, nothing that was done is lost, no value changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptsr.backbones.build import build
from adaptsr.backbones.inference import restore
from adaptsr.data.images import read_image
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.data.store import Split, load_split
from adaptsr.runs.loading import load_run
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.run import Run
from adaptsr.scoring import score_runs, scorer
from adaptsr.scoring.gather import gather
from adaptsr.scoring.pictures import Picture, kept_pictures, picture_path
from adaptsr.scoring.score_runs import score_block
from adaptsr.scoring.scorer import Scorer, ScoreRow
from adaptsr.scoring.table import metric_key, read_scores
from adaptsr.training.train_runs import ensure_runs
from speed.scoring import write_random_weights
from tests import factories
from tests.factories import baselines, pairs_profile, write_pairs

OUT = Path("scores.parquet")
LIST = Path("list.json")
TESTED = 5
SIDE = 64
OF_PICTURE = (3, 4)
"""The test image that is kept as a picture."""
SUBJECTS = 3
"""The unadapted backbone and two runs."""

PSNR = {"name": "psnr", "title": "PSNR-Y"}
GMSD = {"name": "gmsd"}
LPIPS = {"name": "lpips", "title": "LPIPS (AlexNet)"}


def matrix_of(**metrics: dict[str, Any]) -> Matrix:
    content = pairs_profile(
        {"train": "rest", "test": f"last {TESTED}"},
        seeds=[1, 2],
        training={"iterations": 2, "batch_size": 1, "crop": 32, "lr": 0.01, "validate_every": 2},
        baselines=baselines({"full_finetuning": ["all"]}),
        scoring={"metrics": metrics},
    )
    content["data"]["validation"]["split"] = "train"
    content["backbones"]["edsr"]["weights"] = "edsr.pth"
    content["report"]["pictures"] = ["5"]
    return factories.matrix_of(content)


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """Two trained runs on a small backbone, five test images, in the working folder."""
    monkeypatch.chdir(tmp_path)
    write_pairs(Path("pairs"), map(str, range(TESTED + 2)), (SIDE // 4, SIDE // 4))
    matrix = matrix_of(psnr_y=PSNR, gmsd=GMSD)
    backbone = matrix.profile.backbones["edsr"]
    torch.manual_seed(0)
    torch.save(build(backbone, 4, load=False).state_dict(), "edsr.pth")
    prepare("photos", matrix.profile.datasets["photos"], manifest_path("photos").parent, 4)
    ensure_runs(matrix, "edsr", "full_finetuning/all", [1, 2], lambda _: None)
    return matrix


@pytest.fixture
def room_for_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for two of the five test images: three groups."""
    monkeypatch.setattr(Scorer, "capacity", lambda *_: 2)


def score(matrix: Matrix) -> list[str]:
    """Score everything that is missing and put it together; what was said."""
    said: list[str] = []
    score_block(matrix, "edsr", matrix.tests, matrix.rows_on("edsr"), LIST, said.append)
    gather(matrix, OUT)
    return said


def run_folder(matrix: Matrix, seed: int) -> Path:
    return Run("edsr", "full_finetuning/all", seed).folder(matrix.results)


def kept_files(matrix: Matrix) -> list[Path]:
    return sorted(matrix.results.rglob("scores/photos.parquet"))


def counted(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> list[tuple[Any, ...]]:
    """The arguments that a function is called with from now on."""
    calls: list[tuple[Any, ...]] = []
    original: Callable[..., Any] = getattr(where, name)

    def counting(*arguments: Any) -> Any:
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(where, name, counting)
    return calls


def test_values_are_those_of_scoring_run_by_run(matrix: Matrix, room_for_two: None) -> None:
    """To the bit, against a loop over the runs that holds everything in memory."""
    score(matrix)
    test = load_split(manifest_path("photos"), "test")
    plain = Scorer(matrix.profile.scoring)
    models: dict[int | None, torch.nn.Module] = {
        None: build(matrix.profile.backbones["edsr"], 4),
        **{seed: load_run(run_folder(matrix, seed)) for seed in (1, 2)},
    }
    expected = {}
    for seed, model in models.items():
        restored = [restore(model, lr[None])[0] for lr in test.lr]
        for row in plain.score(restored, test.hr, test.names):
            expected[seed, row.image, row.metric] = row.value
    scores = read_scores(OUT).rows
    seeds = [None if seed != seed else seed for seed in scores["seed"].astype(float)]
    found = dict(zip(zip(seeds, scores["image"], scores["metric"], strict=True), scores["value"], strict=True))
    assert found == expected
    assert len(set(expected.values())) == len(expected)


@pytest.mark.parametrize(
    ("together", "said"),
    [
        (10, "edsr unadapted to edsr full_finetuning/all seed 2: photos up to image 4 of 5"),
        (2, "edsr full_finetuning/all seed 2: photos up to image 4 of 5"),
    ],
)
def test_groups_of_images_and_portions_of_runs_change_no_byte(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch, together: int, said: str
) -> None:
    """The weights of no more runs than that are in memory at once."""
    score(matrix)
    expected = OUT.read_bytes()
    kept = {path: path.read_bytes() for path in kept_files(matrix)}
    assert len(kept) == SUBJECTS
    for path in kept:
        path.unlink()
    monkeypatch.setattr(Scorer, "capacity", lambda *_: 2)
    monkeypatch.setattr(score_runs, "SUBJECTS_TOGETHER", together)
    lines = score(matrix)
    assert OUT.read_bytes() == expected
    assert {path: path.read_bytes() for path in kept} == kept
    assert said in lines
    assert sum(line.endswith(": scored on photos") for line in lines) == SUBJECTS


@pytest.mark.parametrize(("capacity", "groups"), [(2, [(0, 2), (2, 4), (4, 5)]), (TESTED, [(0, 5)])])
def test_a_group_is_of_what_fits_and_decoded_once_for_all_runs(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch, capacity: int, groups: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(Scorer, "capacity", lambda *_: capacity)
    reads = counted(monkeypatch, Split, "load")
    score(matrix)
    spans = [arguments[1:] for arguments in reads]
    assert [span for span in spans if span != OF_PICTURE] == groups
    reads.clear()
    score(matrix)
    assert not reads, "what is kept costs no decoding"


def test_features_of_a_reference_are_computed_once_across_runs(
    matrix: Matrix, room_for_two: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With memory for two images, which is what a group has: scored run by run, each would be computed for every run."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    write_random_weights(tmp_path / "torch")
    learned = matrix_of(lpips=LPIPS)
    monkeypatch.setitem(scorer._FEATURE_MEMORY_BYTES, "cpu", 2 * 12 * 4 * SIDE * SIDE)
    extracted: list[str] = []
    recall = scorer._FeatureMemory.recall

    def counting(self: Any, keys: list[str], extract: Callable[[], Sequence[torch.Tensor]]) -> Sequence[torch.Tensor]:
        def extracting() -> Sequence[torch.Tensor]:
            extracted.extend(keys)
            return extract()

        return recall(self, keys, extracting)

    monkeypatch.setattr(scorer._FeatureMemory, "recall", counting)
    score(learned)
    assert read_scores(OUT).rows["value"].notna().sum() == SUBJECTS * TESTED
    assert len(extracted) == len(set(extracted)) == TESTED


def test_a_killed_job_goes_on_where_it_was(matrix: Matrix, room_for_two: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed in the second group: of nine parts, the four that were done are not done again."""
    score(matrix)
    undisturbed = OUT.read_bytes()
    for path in [OUT, *kept_files(matrix)]:
        path.unlink()
    calls = 0
    plain = Scorer.score

    def killed(self: Scorer, *arguments: Any) -> list[ScoreRow]:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise KeyboardInterrupt
        return plain(self, *arguments)

    with monkeypatch.context() as context:
        context.setattr(Scorer, "score", killed)
        with pytest.raises(KeyboardInterrupt):
            score(matrix)
    assert not kept_files(matrix), "nothing that looks finished"
    assert len(list(matrix.results.rglob("scores/photos.parts/*.parquet"))) == 4
    torn = next(matrix.results.rglob("unadapted/scores/photos.parts/0.parquet"))
    torn.write_bytes(torn.read_bytes()[:-20])
    done = counted(monkeypatch, Scorer, "score")
    said = score(matrix)
    assert len(done) == 3 * SUBJECTS - 4 + 1
    assert any(str(torn) in line and line.endswith("scoring again") for line in said)
    assert OUT.read_bytes() == undisturbed
    assert not list(matrix.results.rglob("*.parts"))


def test_a_new_metric_is_the_only_one_scored(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    score(matrix)
    before = read_scores(OUT).rows
    calls = counted(monkeypatch, Scorer, "score")
    score(matrix_of(psnr_y=PSNR, gmsd=GMSD, ssim_y={"name": "ssim"}))
    assert [arguments[-1] for arguments in calls] == [["ssim_y"]] * SUBJECTS
    after = read_scores(OUT).rows
    assert after[after["metric"] != "ssim_y"].reset_index(drop=True).equals(before)
    assert after.query("metric == 'ssim_y'")["value"].notna().sum() == SUBJECTS * TESTED


@pytest.mark.parametrize(("name", "title"), [("psnr_y", "Another title"), ("psnr_of_y", "PSNR-Y")])
def test_a_renamed_metric_is_not_scored_again(
    matrix: Matrix, monkeypatch: pytest.MonkeyPatch, name: str, title: str
) -> None:
    score(matrix)
    before = read_scores(OUT).rows
    calls = counted(monkeypatch, Scorer, "score")
    assert score(matrix_of(**{name: PSNR | {"title": title}, "gmsd": GMSD})) == []
    assert not calls
    after = read_scores(OUT).rows
    renamed = before.assign(metric=before["metric"].replace("psnr_y", name).astype("string"))
    assert after.sort_values(["metric", "seed", "image"], ignore_index=True).equals(
        renamed.sort_values(["metric", "seed", "image"], ignore_index=True)
    )


def test_a_metric_that_is_taken_out_and_put_back_costs_nothing(matrix: Matrix, monkeypatch: pytest.MonkeyPatch) -> None:
    score(matrix)
    before = OUT.read_bytes()
    calls = counted(monkeypatch, Scorer, "score")
    score(matrix_of(gmsd=GMSD))
    assert set(read_scores(OUT).rows["metric"]) == {"gmsd"}
    score(matrix)
    assert not calls
    assert OUT.read_bytes() == before


def test_a_metric_without_its_network_is_measured_once_it_is_there(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    learned = matrix_of(psnr_y=PSNR, gmsd=GMSD, lpips=LPIPS)
    score(learned)
    without = read_scores(OUT).rows.query("metric == 'lpips'")
    assert without["value"].isna().all()
    assert without["reason"].str.contains("AlexNet and LPIPS weights not available").all()
    calls = counted(monkeypatch, Scorer, "score")
    score(learned)
    assert not calls, "still not there: nothing to do"
    write_random_weights(tmp_path / "torch")
    score(learned)
    assert [arguments[-1] for arguments in calls] == [["lpips"]] * SUBJECTS
    assert read_scores(OUT).rows["value"].notna().all()


def test_the_key_of_a_metric_is_of_what_it_measures() -> None:
    def key(metric: dict[str, Any], border: int = 0) -> str:
        scoring = matrix_of(column=metric).profile.scoring.model_copy(update={"crop_border": border})
        return metric_key(scoring, "column")

    plain = key({"name": "psnr"})
    assert plain == key(PSNR)
    others = {key({"name": "ssim"}), key({"name": "psnr"}, 4), key({"name": "psnr", "options": {"eps": 1.0}})}
    assert len(others - {plain}) == 3


def test_pictures_of_the_first_seed_are_kept(matrix: Matrix, room_for_two: None) -> None:
    """Those of the unadapted backbone and of seed 1, and alone where only they have gone."""
    score(matrix)
    picture = Picture("photos", "5")
    first, second = (run_folder(matrix, seed) for seed in (1, 2))
    assert kept_pictures(matrix.results / "edsr/unadapted", "photos") == kept_pictures(first, "photos") == {picture}
    assert kept_pictures(second, "photos") == set()
    test = load_split(manifest_path("photos"), "test")
    lr = test.lr[list(test.names).index("5")]
    expected = restore(load_run(first), lr[None])[0]
    assert torch.equal(read_image(picture_path(first, picture)), expected)
    picture_path(first, picture).unlink()
    assert score(matrix) == ["edsr full_finetuning/all seed 1: scored on photos"]
    assert torch.equal(read_image(picture_path(first, picture)), expected)


def test_drift_is_psnr_on_its_dataset_alone(matrix: Matrix) -> None:
    content = matrix.profile.model_dump(mode="json", exclude_unset=True)
    content["datasets"]["bicubic"] = content["datasets"]["photos"]
    content["data"]["drift"] = {"dataset": "bicubic", "split": "test"}
    drifting = factories.matrix_of(content)
    prepare("bicubic", drifting.profile.datasets["bicubic"], manifest_path("bicubic").parent, 4)
    score(drifting)
    rows = read_scores(OUT).rows
    assert set(rows["metric"][rows["dataset"] == "bicubic"]) == {"drift"}
    keys = ["backbone", "baseline", "seed", "image"]
    drift, psnr = (
        rows[rows["metric"] == metric].set_index(keys)["value"].sort_index() for metric in ("drift", "psnr_y")
    )
    assert drift.equals(psnr)
    assert not list(drifting.results.rglob("pictures/bicubic/*.png"))
    score(matrix)
    assert set(read_scores(OUT).rows["metric"]) == {"psnr_y", "gmsd"}
