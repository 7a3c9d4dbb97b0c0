"""Packs: two halves give the scores of the whole, strangers are refused, and a merge is done whole or not at all."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import signal
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptsr.backbones.build import build
from adaptsr.data.manifest import manifest_path
from adaptsr.data.prepare import prepare
from adaptsr.errors import UserError
from adaptsr.exchange import merge, moves
from adaptsr.exchange.agreement import Agreement
from adaptsr.exchange.check import check_pack
from adaptsr.exchange.merge import Merged, merge_packs
from adaptsr.exchange.moves import recover
from adaptsr.exchange.packs import write_pack
from adaptsr.files import file_sha256
from adaptsr.reporting.provenance import trace_origin
from adaptsr.reporting.results import read_results
from adaptsr.runs.loading import damage, write_merged
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.origins import without_weights
from adaptsr.runs.parts import Part, take_part
from adaptsr.runs.records import read_record
from adaptsr.runs.run import Run
from adaptsr.scoring.gather import gather
from adaptsr.scoring.score_runs import score_block
from adaptsr.training.train_runs import ensure_runs
from tests import factories
from tests.factories import Json, baselines, cut, flipped, pairs_profile, tree, write_pairs

ROW = "lora/r1"
SCORES = Path("results/small/scores.parquet")
ONE = Run("edsr", ROW, 1)


def content_of() -> Json:
    content = pairs_profile(
        {"train": "rest", "test": "last 2"},
        seeds=[1, 2],
        training={"iterations": 2, "batch_size": 1, "crop": 32, "lr": 0.01, "validate_every": 2},
        baselines=baselines({"lora": ["r1"]}),
    )
    content["data"]["validation"]["split"] = "train"
    content["backbones"]["edsr"]["weights"] = "edsr.pth"
    return content


def nothing(_line: str) -> None:
    pass


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where both seeds are trained, scored and packed, together and apart."""
    root = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_pairs(Path("pairs"), map(str, range(4)))
        matrix = factories.matrix_of(content_of())
        torch.manual_seed(0)
        torch.save(build(matrix.profile.backbones["edsr"], 4, load=False).state_dict(), "edsr.pth")
        prepare("photos", matrix.profile.datasets["photos"], manifest_path("photos").parent, 4)
        ensure_runs(matrix, "edsr", ROW, [1, 2], nothing)
        score_block(matrix, "edsr", matrix.tests, matrix.rows_on("edsr"), Path("list.json"), nothing)
        gather(matrix, SCORES)
        for seed, by in (("1", "Ada"), ("2", "Bob")):
            write_pack(take_part(matrix, Part(seeds=seed)), Path(f"{by}.zip"), by=by)
            write_pack(take_part(matrix, Part(seeds=seed)), Path(f"{by}-light.zip"), by=by, weights=False)
        write_pack(matrix, Path("all.zip"))
    return root


@pytest.fixture
def away(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Matrix:
    """The same profile where neither data nor weights nor runs are, beside the packs."""
    for pack in home.glob("*.zip"):
        shutil.copy(pack, tmp_path)
    monkeypatch.chdir(tmp_path)
    return factories.matrix_of(content_of())


def merged(matrix: Matrix, *names: str, **options: bool) -> tuple[Merged, list[str]]:
    said: list[str] = []
    return merge_packs(matrix, [Path(name) for name in names], said.append, **options), said


def rewritten(source: str, change: Callable[[dict[str, bytes]], object], name: str = "changed.zip") -> str:
    """Write a pack with other members; its checksums are made anew."""
    with zipfile.ZipFile(source) as archive:
        members = {entry: archive.read(entry) for entry in archive.namelist()}
    change(members)
    about = json.loads(members["pack.json"])
    for entry in about["sha256"]:
        if entry in members:
            Path("member").write_bytes(members[entry])
            about["sha256"][entry] = file_sha256(Path("member"))
    members["pack.json"] = json.dumps(about).encode()
    Path(name).write_bytes(factories.zipped(members))
    return name


def record_with(**values: Any) -> Callable[[dict[str, bytes]], object]:
    def change(members: dict[str, bytes]) -> None:
        for name in [name for name in members if name.endswith("record.json")]:
            content = json.loads(members[name])
            for key, value in values.items():
                part, _, last = key.rpartition("__")
                (content[part] if part else content)[last] = value
            members[name] = json.dumps(content).encode()

    return change


# The proof


@pytest.mark.parametrize("packs", [("Ada.zip", "Bob.zip"), ("Bob-light.zip", "Ada-light.zip"), ("all.zip",)])
def test_two_halves_give_the_scores_of_the_whole(home: Path, away: Matrix, packs: tuple[str, ...]) -> None:
    for pack in packs:
        merged(away, pack)
    assert SCORES.read_bytes() == (home / SCORES).read_bytes()


def test_runs_of_another_profile_count_if_their_keys_are_asked_for(away: Matrix) -> None:
    other = factories.matrix_of({**content_of(), "name": "other", "seeds": [2, 3]})
    _, said = merged(other, "all.zip")
    assert said == ["all.zip: 1 runs, new 1 on " + said[0].partition("new 1 on ")[2]]
    assert said[0].endswith("; not in this profile: edsr/lora/r1/seed1")
    results = read_results(other.profile, other.rows, other.matches(), other.results)
    assert set(results.scores["profile"]) == {"other"}
    assert list(results.records) == [Run("edsr", ROW, 2)]


def test_what_others_have_written_cannot_write_to_the_terminal(away: Matrix) -> None:
    def change(members: dict[str, bytes]) -> None:
        record_with(provenance__device="H100\x1b[2J")(members)
        about = json.loads(members["pack.json"])
        members["pack.json"] = json.dumps({**about, "by": "Eve\n", "runs": {**about["runs"], "\x1b]0;": "0"}}).encode()

    _, said = merged(away, rewritten("Ada.zip", change))
    assert said == [r"changed.zip by Eve\n: 1 runs, new 1 on H100\x1b[2J; not in this profile: \x1b]0;"]


def test_the_same_runs_give_the_same_pack(home: Path, away: Matrix) -> None:
    merged(away, "all.zip")
    write_pack(away, Path("again.zip"))
    with zipfile.ZipFile("all.zip") as first, zipfile.ZipFile("again.zip") as again:
        assert first.namelist() == again.namelist()
        assert not any(name.endswith(".png") for name in first.namelist())
    assert Path("again.zip").read_bytes() == Path("all.zip").read_bytes()


def test_a_pack_may_be_packed_again_as_tar(home: Path, away: Matrix) -> None:
    for name, mode in (("all.tar", "w"), ("all.tar.gz", "w:gz")):
        with zipfile.ZipFile("all.zip") as source, tarfile.open(name, mode) as target:  # type: ignore[call-overload]
            for entry in source.infolist():
                info = tarfile.TarInfo(entry.filename)
                info.size = entry.file_size
                target.addfile(info, io.BytesIO(source.read(entry)))
    merged(away, "all.tar", "all.tar.gz")
    assert SCORES.read_bytes() == (home / SCORES).read_bytes()


def test_the_report_names_who_ran_what_on_which_card(away: Matrix) -> None:
    merged(away, "Ada.zip", rewritten("Bob.zip", record_with(provenance__device="NVIDIA H100")))
    results = read_results(away.profile, away.rows, away.matches(), away.results)
    texts = [text for text, _ in trace_origin(results, "").machines]
    assert any(text.startswith("Ada: ") and text.endswith("(edsr lora/r1, seeds 1)") for text in texts)
    assert any(text.startswith("Bob: NVIDIA H100; ") and text.endswith("(edsr lora/r1, seeds 2)") for text in texts)
    assert len(results.seed_means.dropna()) == 3


# Records without weights


def test_a_record_without_weights_counts_for_scores_and_is_refused_elsewhere(home: Path, away: Matrix) -> None:
    merged(away, "Ada-light.zip")
    folder = ONE.folder(away.results)
    with pytest.raises(
        UserError, match="seed1: a record without its weights, which counts for scores and reports alone"
    ):
        write_merged(folder, Path("out.safetensors"))
    for name in ("pairs", "resources", "edsr.pth"):
        source = home / name
        shutil.copytree(source, name) if source.is_dir() else shutil.copy(source, name)
    before = tree(folder)
    ensure_runs(away, "edsr", ROW, [1], nothing)
    part = take_part(away, Part(seeds="1"))
    score_block(part, "edsr", part.tests, part.rows_on("edsr"), Path("list.json"), nothing)
    assert tree(folder) == before, "finished: neither trained nor scored again"
    shutil.rmtree(folder / "scores")
    with pytest.raises(UserError, match="a record without its weights"):
        score_block(part, "edsr", part.tests, part.rows_on("edsr"), Path("list.json"), nothing)


# What was run twice


def test_what_was_run_twice_is_compared(away: Matrix) -> None:
    merged(away, "all.zip")
    done, said = merged(away, "Ada.zip")
    assert done.twice == {ONE: Agreement(True, "the same to the bit")}
    assert said[-1] == "edsr/lora/r1/seed1: run twice, the same to the bit"
    other = rewritten("Ada-light.zip", record_with(adaptation_sha256="0" * 64, status="finished"), "other.zip")
    with pytest.raises(UserError, match="scores of other weights or images"):
        merged(away, other)


def test_weights_may_come_after_their_record(away: Matrix) -> None:
    merged(away, "Ada-light.zip")
    folder = ONE.folder(away.results)
    assert without_weights(folder)
    done, _ = merged(away, "Ada.zip")
    assert not done.added
    assert not without_weights(folder)
    assert damage(folder, read_record(folder / "record.json")) is None


def test_choices_of_tuning_travel_with_their_runs(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tuning = {"grid": {"lr": [0.01, 0.02]}, "seeds": [9], "training": {"iterations": 1}, "metric": "psnr_y"}
    content = {**content_of(), "name": "tuned", "tuning": tuning}
    content["data"]["validation"]["split"] = "validation"
    content["datasets"]["photos"]["split"]["validation"] = "first 1"
    root = tmp_path / "trained"
    shutil.copytree(home, root, ignore=shutil.ignore_patterns("results", "resources", "*.zip"))
    monkeypatch.chdir(root)
    matrix = factories.matrix_of(content)
    prepare("photos", matrix.profile.datasets["photos"], manifest_path("photos").parent, 4)
    made = factories.choice(
        {0.02: [22.0]},
        asked=matrix.asked_of_tuning("edsr", ROW),
        backbone="edsr",
        row=ROW,
        inputs=matrix.inputs("edsr"),
    )
    made.write(matrix.results / f"tuning/choices/edsr/{ROW}.json")
    write_pack(matrix, tmp_path / "chosen.zip")
    ensure_runs(matrix, "edsr", ROW, [1, 2], nothing)
    score_block(matrix, "edsr", matrix.tests, matrix.rows_on("edsr"), Path("list.json"), nothing)
    gather(matrix, matrix.results / "scores.parquet")
    write_pack(matrix, tmp_path / "tuned.zip")
    expected = (matrix.results / "scores.parquet").read_bytes()
    assert check_pack(matrix, tmp_path / "tuned.zip", None, nothing).passed
    monkeypatch.chdir(tmp_path)
    there = factories.matrix_of(content)
    merged(there, "tuned.zip")
    assert (there.results / "scores.parquet").read_bytes() == expected
    assert there.choice("edsr", ROW) == made
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    here = factories.matrix_of(content)
    merged(here, "../chosen.zip")  # before anything is trained
    assert here.choice("edsr", ROW) == made
    other = factories.matrix_of({**content, "name": "other", "tuning": {**tuning, "seeds": [8]}})
    merged(other, "../chosen.zip")
    assert not (other.results / "tuning").exists()


# Strangers

REFUSED: dict[str, tuple[Callable[[dict[str, bytes]], object], str]] = {
    "another protocol": (record_with(variant_key="0" * 64), "of another protocol, schedule or options than small.yaml"),
    "another seed": (record_with(seed=7), "its record is of another run"),
    "another start": (
        record_with(inputs__weights="1" * 64),
        "trained from other images or weights",
    ),
    "other code": (record_with(provenance__code_version="1" * 40), "made by other code (111111111111); --other-code"),
    "other weights": (
        lambda members: members.update({f"{ONE.name}/adaptation.safetensors": b"x"}),
        "adaptation.safetensors is not what its record names",
    ),
    "a newer record": (record_with(schema=99), "a record of schema 99"),
    "no record": (lambda members: members.pop(f"{ONE.name}/record.json"), "record.json is missing"),
    "a file more": (lambda members: members.update({"more.json": b"{}"}), "more.json is not listed"),
    "a way out": (lambda members: members.update({"../out": b"x"}), "a path that leads out of the archive"),
    "a hidden file": (lambda members: members.update({".bashrc": b"x"}), "not a name of a file of a pack"),
    "a newer pack": (
        lambda members: members.update({"pack.json": members["pack.json"].replace(b'"schema": 1', b'"schema": 2')}),
        "a pack of schema 2",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_stranger_is_refused_in_one_line_and_changes_nothing(away: Matrix, case: str) -> None:
    change, said = REFUSED[case]
    merged(away, "Bob.zip")
    before = tree(away.results)
    pack = rewritten("Ada.zip", change)
    with pytest.raises(UserError) as refused:
        merged(away, pack)
    assert said in str(refused.value)
    assert str(refused.value).startswith((f"{pack}: ", "results/small/"))
    assert tree(away.results) == before
    assert [path.name for path in Path("results").iterdir()] == ["small"]


def test_other_code_may_be_accepted(away: Matrix) -> None:
    other = rewritten("Ada.zip", record_with(provenance__code_version="1" * 40))
    merged(away, "Bob.zip", other, other_code=True)
    assert len(read_results(away.profile, away.rows, away.matches(), away.results).records) == 2


def test_another_schedule_or_other_metrics_of_the_profile_are_refused(away: Matrix) -> None:
    content = content_of()
    content["training"]["lr"] = 0.02
    with pytest.raises(UserError, match=r"^all\.zip: 2 problems: .*another protocol, schedule or options"):
        merged(factories.matrix_of(content), "all.zip")
    content = content_of()
    content["scoring"]["crop_border"] = 4
    with pytest.raises(UserError, match="scored with other metrics or conventions"):
        merged(factories.matrix_of(content), "all.zip")
    assert not SCORES.parent.exists()


@pytest.mark.parametrize(
    "harm", [lambda content: cut(content, 0.6), lambda content: flipped(content, 2000), lambda _: b""]
)
def test_a_torn_pack_leaves_nothing(away: Matrix, harm: Callable[[bytes], bytes]) -> None:
    Path("Bob.zip").write_bytes(harm(Path("Bob.zip").read_bytes()))
    with pytest.raises(UserError, match=r"^Bob\.zip: "):
        merged(away, "Ada.zip", "Bob.zip")
    assert not SCORES.parent.exists()


@pytest.mark.parametrize("place", ["gather", "files"])
def test_a_full_disk_leaves_nothing(away: Matrix, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    merged(away, "Bob.zip")
    before = tree(away.results)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if place == "gather":
        monkeypatch.setattr(merge, "gather", full)
    else:
        monkeypatch.setattr(merge.files, "write_json", full)
    with pytest.raises(UserError, match=r"cannot be written: No space left on device; make room"):
        merged(away, "Ada.zip")
    assert tree(away.results) == before
    assert [path.name for path in Path("results").iterdir()] == ["small"]


def killed_at_rename(number: int, matrix: Matrix, *names: str) -> bool:
    """Merge in a process that is killed before a rename into or out of the results; return whether it was."""
    child = os.fork()
    if child == 0:
        rename, count = Path.rename, 0

        def deadly(self: Path, target: Path) -> Path:
            nonlocal count
            count += 1
            if count == number:
                os.kill(os.getpid(), signal.SIGKILL)
            return rename(self, target)

        Path.rename = deadly  # type: ignore[method-assign, assignment]
        if number == 0:
            moves.shutil.rmtree = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[assignment]
        merged(matrix, *names)
        os._exit(0)
    return os.waitpid(child, 0)[1] == signal.SIGKILL


def test_a_merge_that_is_killed_between_two_renames_is_undone(home: Path, away: Matrix) -> None:
    """A run is replaced, another is new, manifests and scores come: a kill before each rename, then a merge to the end."""
    merged(away, "Ada.zip")
    path = ONE.record_path(away.results)
    read_record(path).model_copy(update={"variant_key": "0" * 64}).write(path)
    shutil.rmtree(away.results / "manifests")
    before, kills = tree(away.results), 0
    while killed_at_rename(kills + 1, away, "Ada.zip", "Bob.zip"):
        kills += 1
        assert recover(away.results) is None
        assert tree(away.results) == before
        assert [item.name for item in Path("results").iterdir()] == ["small"]
    assert kills >= 6
    assert SCORES.read_bytes() == (home / SCORES).read_bytes()


def test_a_merge_that_is_killed_after_its_last_rename_stays(home: Path, away: Matrix) -> None:
    assert killed_at_rename(0, away, "all.zip")
    recover(away.results)
    assert SCORES.read_bytes() == (home / SCORES).read_bytes()
    assert [item.name for item in Path("results").iterdir()] == ["small"]


def test_two_merges_at_once_are_refused(away: Matrix) -> None:
    with moves.staging_of(away.results), pytest.raises(UserError, match="another merge is in progress"):
        merged(away, "all.zip")
    merged(away, "all.zip")


def test_a_run_of_another_key_is_kept_when_one_is_merged(away: Matrix) -> None:
    merged(away, "Ada.zip")
    path = ONE.record_path(away.results)
    old = read_record(path).model_copy(update={"variant_key": "0" * 64})
    old.write(path)
    merged(away, "Ada.zip")
    assert read_record(path).variant_key != old.variant_key
    assert read_record(ONE.record_path(away.results / f"superseded/{old.key}")).key == old.key


# The check


def test_a_pack_is_checked_by_redoing_a_run(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    matrix = factories.matrix_of(content_of())
    before = tree(matrix.results)
    check = check_pack(matrix, Path("all.zip"), ONE.name, nothing)
    assert (check.passed, check.bitwise, check.agreement.text) == (True, True, "the same to the bit")
    assert tree(matrix.results) == before

    def elsewhere(name: str, *changes: Callable[[dict[str, bytes]], object]) -> str:
        return rewritten("all.zip", lambda members: [change(members) for change in changes], name)

    same = record_with(adaptation_sha256="0" * 64)
    assert check_pack(matrix, Path(elsewhere("same.zip", same)), ONE.name, nothing).passed is False
    other = elsewhere("other.zip", same, record_with(provenance__device="NVIDIA H100"))
    check = check_pack(matrix, Path(other), ONE.name, nothing)
    assert check.passed is True
    assert "within the spread of seeds" in check.text
    assert "NVIDIA H100 there, cpu" in check.text
    with pytest.raises(UserError, match=r"all\.zip: no run 'edsr/lora/r1/seed9'"):
        check_pack(matrix, Path("all.zip"), "edsr/lora/r1/seed9", nothing)
    with pytest.raises(UserError, match="of another protocol, schedule, data or options"):
        check_pack(
            replace(matrix, profile=matrix.profile.model_copy(update={"protocol": 2})), Path("all.zip"), None, nothing
        )
