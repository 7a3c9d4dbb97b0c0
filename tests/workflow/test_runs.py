"""What is run, and what is not run again: the tests of this file follow each other in one workspace."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

MY_METHOD = '''"""My method (Me, 2026): a trained copy of every bias."""

from adaptsr.backbones.sites import select
from adaptsr.adaptation.reparametrization import Plan

TITLE = "My method ({share})"
TRAINS = "biases"
OPTIONS = {"share": 1.0}
VARIANTS = {"full": {}}
ROWS = ["full"]
PROTOCOL = 1


def plan(backbone, sites, options, calibration, seed):
    names = [site.name for site in select(sites) if site.bias]
    return Plan({"sites": names[: max(1, int(len(names) * options["share"]))]})


def attach(model, plan):
    for name in plan.settings["sites"]:
        model.get_submodule(name).bias.requires_grad_(True)
'''


def run_all(workspace: Workspace, *words: str) -> str:
    done = workspace.snakemake("--cores", "2", "all", *words)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def scores(workspace: Workspace) -> pd.DataFrame:
    return pd.read_parquet(workspace.root / "results/demo/scores.parquet")


def table_rows(workspace: Workspace, table: str) -> str:
    return (workspace.root / f"reports/demo/{table}.md").read_text()


def test_everything_is_run_scored_and_reported(workspace: Workspace) -> None:
    run_all(workspace)
    runs = workspace.trained_at()
    assert set(runs) == {f"safmn/{row}/seed{seed}" for row in ("full_finetuning/all", "lora/r1") for seed in (1, 2)}
    frame = scores(workspace)
    per_image = frame.groupby(["baseline", "seed"], dropna=False).size()
    assert len(per_image) == 5, "two variants of two seeds and the unadapted backbone once"
    assert per_image.nunique() == 1
    assert frame["value"].isna().eq(frame["reason"].notna()).all()
    assert frame.query("metric == 'psnr_y'")["color_space"].eq("ycbcr").all()
    for name in ("table2", "table3"):
        for kind in ("html", "md", "csv", "tex"):
            assert (workspace.root / f"reports/demo/{name}.{kind}").stat().st_size > 0
    for kind in ("html", "csv"):
        assert (workspace.root / f"reports/demo/significance.{kind}").stat().st_size > 0


def test_a_second_call_does_nothing(workspace: Workspace) -> None:
    before = workspace.trained_at()
    assert "Nothing to be done" in run_all(workspace)
    assert workspace.trained_at() == before


def test_the_same_seeds_give_the_same_bytes(workspace: Workspace) -> None:
    root = workspace.root
    first = (root / "results/demo/scores.parquet").read_bytes()
    adaptation = root / "results/demo/safmn/lora/r1/seed1/adaptation.safetensors"
    weights = adaptation.read_bytes()
    other_seed = (root / "results/demo/safmn/lora/r1/seed2/adaptation.safetensors").read_bytes()
    (root / "results").rename(root / "results-first")
    run_all(workspace, "--cores", "1")
    assert (root / "results/demo/scores.parquet").read_bytes() == first
    assert adaptation.read_bytes() == weights
    assert other_seed != weights


def test_a_named_target_remakes_only_what_is_stale(workspace: Workspace) -> None:
    for name in ("table2", "table3"):
        (workspace.root / f"reports/demo/{name}.html").unlink()
    done = workspace.snakemake("table2")
    assert done.returncode == 0, done.stdout[-4000:]
    assert (workspace.root / "reports/demo/table2.html").exists()
    assert not (workspace.root / "reports/demo/table3.html").exists()


def test_a_dropped_in_baseline_joins_every_table_and_trains_alone(workspace: Workspace) -> None:
    before = workspace.trained_at()
    (workspace.root / "baselines/my_method.py").write_text(MY_METHOD)
    run_all(workspace)
    after = workspace.trained_at()
    assert {run for run in after if run not in before} == {f"safmn/my_method/full/seed{seed}" for seed in (1, 2)}
    assert {run: when for run, when in after.items() if run in before} == before
    for table in ("table2", "table3"):
        assert "My method (1.0)" in table_rows(workspace, table)


def test_a_new_variant_trains_alone(workspace: Workspace) -> None:
    before = workspace.trained_at()
    text = MY_METHOD.replace('{"full": {}}', '{"full": {}, "half": {"share": 0.5}}').replace(
        '["full"]', '["full", "half"]'
    )
    (workspace.root / "baselines/my_method.py").write_text(text)
    run_all(workspace)
    after = workspace.trained_at()
    assert set(after) - set(before) == {f"safmn/my_method/half/seed{seed}" for seed in (1, 2)}
    assert {run: when for run, when in after.items() if run in before} == before


def test_a_changed_comment_trains_nothing(workspace: Workspace) -> None:
    before = workspace.trained_at()
    file = workspace.root / "baselines/my_method.py"
    file.write_text(file.read_text() + "\n# a comment\n")
    assert "Nothing to be done" in run_all(workspace)
    assert workspace.trained_at() == before


def test_a_raised_protocol_trains_the_files_variants(workspace: Workspace) -> None:
    before = workspace.trained_at()
    file = workspace.root / "baselines/my_method.py"
    file.write_text(file.read_text().replace("PROTOCOL = 1", "PROTOCOL = 2"))
    run_all(workspace)
    after = workspace.trained_at()
    again = {run for run in after if after[run] != before.get(run)}
    assert again == {run for run in after if run.startswith("safmn/my_method/")}


def test_a_new_metric_scores_again_and_trains_nothing(workspace: Workspace) -> None:
    before = workspace.trained_at()
    content = workspace.profile()
    content["scoring"]["metrics"]["gmsd"] = {"name": "gmsd", "title": "GMSD"}
    workspace.write_profile(content)
    run_all(workspace)
    assert workspace.trained_at() == before
    assert "gmsd" in set(scores(workspace)["metric"])


def test_a_renamed_metric_renames_its_column_and_scores_nothing(workspace: Workspace) -> None:
    kept = {path: path.stat().st_mtime_ns for path in (workspace.root / "results").rglob("scores/degraded.parquet")}
    before = scores(workspace)
    content = workspace.profile()
    metrics = content["scoring"]["metrics"]
    content["scoring"]["metrics"] = {"quality": {**metrics.pop("psnr_y"), "title": "Another title"}, **metrics}
    workspace.write_profile(content)
    assert "Scoring on" not in run_all(workspace)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    after = scores(workspace)
    renamed = before["metric"].replace("psnr_y", "quality")
    assert sorted(zip(renamed, before["value"].fillna(0), strict=True)) == sorted(
        zip(after["metric"], after["value"].fillna(0), strict=True)
    )
    assert "Another title" in table_rows(workspace, "table2")


def test_a_killed_job_leaves_nothing_that_looks_finished_and_the_next_call_completes_the_rest(
    workspace: Workspace,
) -> None:
    content = workspace.profile()
    content["training"]["iterations"] = 400
    content["baselines"]["lora"]["rows"] = ["r1", "r2"]
    content["baselines"]["my_method"] = {"rows": []}
    content["protocol"] = 2
    workspace.write_profile(content)
    folder = workspace.root / "results/demo/safmn"
    process = workspace.start("--cores", "1", "all")
    finished = wait_for_new_record(folder, protocol_started=time.time_ns())
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    kill_left_over_training(workspace.root)
    kept = finished.stat().st_mtime_ns
    assert not (workspace.root / "results/demo/scores.parquet").exists() or scores_are_old(workspace)
    assert workspace.snakemake("--unlock").returncode == 0
    run_all(workspace)
    assert finished.stat().st_mtime_ns == kept, "a finished run is not done again"
    assert len(workspace.trained_at()) >= 6
    for record in folder.glob("*/*/seed*/record.json"):
        assert json.loads(record.read_text())["status"] == "finished"


def scores_are_old(workspace: Workspace) -> bool:
    return "r2" not in set(scores(workspace)["variant"])


def wait_for_new_record(folder: Path, protocol_started: int) -> Path:
    """The first record written after the start; its job goes on with the next seed."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        for record in folder.glob("*/*/seed1/record.json"):
            if record.stat().st_mtime_ns > protocol_started:
                return record
        time.sleep(0.2)
    raise AssertionError("no run finished in time")


def kill_left_over_training(root: Path) -> None:
    import psutil

    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "train" in words and any(word.endswith("adaptsr") for word in words):
            try:
                if Path(process.cwd()) == root:
                    process.kill()
                    process.wait()
            except psutil.Error:
                continue
