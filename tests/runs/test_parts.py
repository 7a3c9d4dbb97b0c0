"""Parts of a matrix: what words name, what they refuse, and that a part's runs are those of the whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from adaptsr.errors import UserError
from adaptsr.runs.estimate import estimate
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.parts import Part, take_part
from tests.factories import matrix_of, profile_content


@pytest.fixture(scope="module")
def paper() -> Matrix:
    return matrix_of(profile_content("paper"))


def test_a_part_has_the_runs_that_its_words_name(paper: Matrix) -> None:
    part = take_part(paper, Part("swinir,safmn", "1-2,5", "lora/r*,rank_aware/gradient"))
    assert list(part.profile.backbones) == ["safmn", "swinir"]
    assert part.profile.seeds == [1, 2, 5]
    rows = ["lora/r1", "lora/r4", "lora/r8", "lora/r16", "lora/r64", "rank_aware/gradient"]
    assert sorted(row.name for row in part.rows) == sorted(["unadapted", *rows])
    assert sum(run.trained for run in part.runs) == 2 * 3 * len(rows)
    assert set(part.runs) <= set(paper.runs)
    assert part.seed_groups == ["1", "2", "5"]
    assert part.results == paper.results
    for backbone in part.profile.backbones:
        for row in rows:
            assert part.variant_key(backbone, row) == paper.variant_key(backbone, row)


def test_the_core_of_the_paper_has_the_papers_runs(paper: Matrix) -> None:
    """But full fine-tuning, which takes 100k iterations there: their packs can be merged into the paper's matrix."""
    core = matrix_of(profile_content("paper-core"))
    for backbone in core.profile.backbones:
        for row in (row.name for row in core.rows_on(backbone) if row.trained):
            same = core.variant_key(backbone, row) == paper.variant_key(backbone, row)
            assert same == (row != "full_finetuning/all"), row
    assert core.profile.data.train == paper.profile.data.train
    assert core.profile.data.validation == paper.profile.data.validation


def test_a_part_and_the_core_are_estimated(paper: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    core = estimate(matrix_of(profile_content("paper-core")))
    assert core.hours is not None
    assert core.hours < 65, "from Friday at five to Monday at ten"
    part = estimate(take_part(paper, Part("swinir", "1-2", "lora/r8")))
    assert [(backbone.name, backbone.runs) for backbone in part.backbones] == [("swinir", 2)]
    assert part.notes[0] == "A part of the matrix, backbones=swinir seeds=1-2 rows=lora/r8: 2 of 415 runs."


@pytest.mark.parametrize(
    ("words", "backbones", "rows"),
    [
        ({"backbones": "external"}, [None], 12),
        ({"rows": "external/*"}, ["edsr", "safmn", "swinir", "drct", None], 12),
        ({"backbones": "safmn"}, ["safmn"], 19 + 1),
        ({"backbones": "s*", "rows": "full_finetuning/mlp"}, ["safmn", "swinir"], 2),
        ({"rows": "unadapted"}, ["edsr", "safmn", "swinir", "drct"], 1),
    ],
)
def test_external_models_and_the_unadapted_backbone(
    paper: Matrix, words: dict[str, str], backbones: list[Any], rows: int
) -> None:
    part = take_part(paper, Part(**words))
    assert list(part.backbones) == backbones
    assert len(part.rows) == rows


@pytest.mark.parametrize("part", [Part(), Part(seeds="1-5"), Part(rows="*"), Part(seeds="1-99", backbones="*")])
def test_all_of_it_is_the_whole(paper: Matrix, part: Part) -> None:
    assert take_part(paper, part) is paper


@pytest.mark.parametrize(
    ("part", "said"),
    [
        (
            Part(backbones="swimir"),
            r"backbones=swimir: 'swimir' names none of the backbones \(did you mean 'swinir'\?\)",
        ),
        (Part(backbones="safmn,"), "backbones=safmn,: '' names none of the backbones; there are drct, edsr, external"),
        (Part(rows="lora/r8,lora/r9"), r"rows=lora/r8,lora/r9: 'lora/r9' names none of the rows \(did you mean"),
        (Part(seeds="6"), "seeds=6: '6' names none of the seeds; give numbers or ranges such as 1-2 of 1, 2, 3, 4, 5"),
        (Part(seeds="3-1"), "seeds=3-1: '3-1' names none of the seeds"),
        (Part(seeds="first"), "seeds=first: 'first' names none of the seeds"),
        (Part(seeds="9" * 5000), "names none of the seeds"),
        (Part(seeds=""), "seeds=: '' names none of the seeds"),
        (
            Part("safmn", rows="full_finetuning/mlp"),
            "none of these rows is run on safmn; they are run on swinir",
        ),
    ],
)
def test_a_part_that_names_nothing_is_one_line(paper: Matrix, part: Part, said: str) -> None:
    with pytest.raises(UserError, match=said) as refused:
        take_part(paper, part)
    assert "\n" not in str(refused.value)
