"""Parts of a matrix: each adds to what is there, nothing is done twice, and both halves give what the whole gives."""

from __future__ import annotations

import pandas as pd
import pytest

from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow
SCORES = "results/demo/scores.parquet"


def run(workspace: Workspace, *words: str) -> str:
    done = workspace.snakemake("--cores", "2", "all", *(["--config", *words] if words else []))
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def page(workspace: Workspace) -> str:
    return " ".join((workspace.root / "reports/demo/index.html").read_text().split())


def test_parts_add_up_to_the_whole(workspace: Workspace) -> None:
    content = workspace.profile()
    content["compute"]["seeds_per_job"] = 2
    workspace.write_profile(content)
    run(workspace, "seeds=1", "rows=lora/*")
    assert set(workspace.trained_at()) == {"safmn/lora/r1/seed1"}
    said = page(workspace)
    assert "A part of the matrix, seeds=1 rows=lora/*: 1 of its 4 runs" in said
    assert "Of 1 runs" not in said

    run(workspace, "seeds=1-1", "rows=full_finetuning/all")
    frame = pd.read_parquet(workspace.root / SCORES)
    assert set(frame["baseline"]) == {"unadapted", "lora", "full_finetuning"}, "the first part is still there"
    assert "This comparison matches no row of this part." in page(workspace)

    run(workspace, "seeds=2")
    before, scores = workspace.trained_at(), (workspace.root / SCORES).read_bytes()
    said = run(workspace)
    assert len(before) == 4
    assert workspace.trained_at() == before, "the seeds are grouped otherwise now, and nothing is trained again"
    assert "scored on" not in said
    assert "validation PSNR-Y" not in said
    assert (workspace.root / SCORES).read_bytes() == scores
    assert "A part of the matrix" not in page(workspace)
    assert "Nothing to be done" in run(workspace)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["backbones=swinir"], "backbones=swinir: 'swinir' names none of the backbones; there are safmn"),
        (["seeds=3"], "seeds=3: '3' names none of the seeds; give numbers or ranges such as 1-2 of 1, 2"),
        (["rows="], "rows=: '' names none of the rows; there are full_finetuning/all, lora/r1, unadapted"),
    ],
)
def test_a_part_that_names_nothing_is_refused_before_any_job(workspace: Workspace, words: list[str], said: str) -> None:
    done = workspace.snakemake("-n", "--config", *words)
    assert done.returncode != 0
    assert [line for line in done.stdout.splitlines() if line.startswith("adaptsr: ")] == [f"adaptsr: {said}"]
