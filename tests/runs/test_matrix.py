"""What a profile runs where, and what makes its runs stale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adaptsr.config.schema import RESERVED_DATASETS
from adaptsr.data.catalogue import read_catalogue
from adaptsr.errors import UserError
from adaptsr.runs.estimate import estimate
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.validation import check
from tests.factories import baselines, matrix_of, profile_content

Change = Callable[[dict[str, Any]], Any]


def paper(change: Change = lambda content: None) -> Matrix:
    content = profile_content("paper")
    change(content)
    return matrix_of(content)


def test_table_4_is_run_on_swinir_alone() -> None:
    """EDSR and SAFMN have neither attention nor MLP sites. AdaptSR-GAN is published with one backbone; all else is run everywhere."""
    matrix = paper()
    on = {name: {row.name for row in matrix.rows_on(name)} for name in matrix.profile.backbones}
    of_table_4 = {f"lora/table4-{kind}" for kind in ("conv", "mlp", "attention")}
    of_table_4 |= {f"full_finetuning/{kind}" for kind in ("conv", "mlp", "attention")}
    assert on["swinir"] - on["edsr"] == of_table_4 | {"rank_aware/gan"}
    assert on["edsr"] == on["safmn"] == on["drct"]


def test_external_models_are_rows_of_no_backbone() -> None:
    matrix = paper()
    assert [row.name for row in matrix.rows_on(None)] == [f"external/{name}" for name in matrix.profile.external]
    assert not any(row.trained for row in matrix.rows_on(None))
    assert not any(row.name.startswith("external/") for row in matrix.rows_on("swinir"))


def with_dataset(name: str) -> Change:
    return lambda content: content["datasets"].update({name: {"kind": "archive", "row": "div2k-bicubic-x4"}})


TUNING = {"grid": {"lr": [1, 2]}, "seeds": [9], "metric": "psnr_y"}
MISTAKES: list[tuple[Change, str]] = [
    (
        lambda content: content["baselines"]["lora"].update(only={"table5-*": ["swinir"]}),
        r"baselines\.lora\.only: 'table5-\*' is none of the rows",
    ),
    (
        lambda content: content["baselines"]["lora"].update(only={"r8": ["swimir"]}),
        r"baselines\.lora\.only: no backbone 'swimir' \(did you mean 'swinir'\?\)",
    ),
    *((with_dataset(name), f"datasets: {name!r} is reserved") for name in RESERVED_DATASETS),
    (lambda content: content.update(backbones={}), "backbones: nothing to adapt; name one"),
    (lambda content: content.pop("training"), "baselines: nothing trains without `training`"),
    (
        lambda content: [content.pop(key) for key in ("training", "baselines")] and content.update(tuning=TUNING),
        "tuning: nothing trains without `training`",
    ),
    (
        lambda content: content["data"].update(drift={"dataset": "realsr"}),
        "data.drift: 'realsr' is a test dataset already",
    ),
    (
        lambda content: (
            content["datasets"].update(degraded=profile_content()["datasets"]["degraded"])
            or content["data"].update(drift={"dataset": "degraded"})
        ),
        r"data\.drift\.dataset: its LR is not bicubic",
    ),
    (
        lambda content: content["datasets"].update(div2k={"kind": "unpaired", "lr": "photos"}),
        r"data\.train\.0\.dataset: the photographs of 'div2k' have no HR",
    ),
    (
        lambda content: content["backbones"].update(external={"architecture": "edsr"}),
        "backbones: 'external' is reserved",
    ),
    (
        lambda content: content["report"]["tables"]["table4"].update(datasets=["drealsr_crop"]),
        r"report\.tables\.table4\.datasets: no test dataset 'drealsr_crop'",
    ),
]


@pytest.mark.parametrize(("change", "said"), MISTAKES)
def test_a_mistake_is_one_line(change: Change, said: str) -> None:
    with pytest.raises(UserError, match=said):
        paper(change)


def test_an_optional_dataset_waits_for_the_archive_that_only_a_person_can_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "drealsr" not in [test.dataset for test in paper().tests]
    archive = read_catalogue().archives["drealsr-test"].path
    archive.parent.mkdir(parents=True)
    archive.touch()
    assert "drealsr" in [test.dataset for test in paper().tests]


def test_every_variant_has_a_title_of_its_own() -> None:
    """Rows are known by their titles wherever they are drawn."""
    matrix = paper()
    titles = [
        matrix.variant(f"{name}/{variant}").title
        for name, file in matrix.baselines.items()
        for variant in file.variants
    ]
    assert sorted(titles) == sorted(set(titles))


@pytest.mark.parametrize("size", [1, 2, 100])
def test_scoring_jobs_are_blocks_of_whole_rows(size: int) -> None:
    matrix = paper(lambda content: content["scoring"].update(rows_per_job=size))
    for backbone in matrix.backbones:
        blocks = matrix.blocks(backbone)
        assert [row for part in blocks.values() for row in part] == matrix.rows_on(backbone)
        assert all(len(part) <= size for part in blocks.values())
        assert (len(blocks) == 1) == (size >= len(matrix.rows_on(backbone)))


def test_a_new_variant_makes_its_own_block_only() -> None:
    def add(content: dict[str, Any]) -> None:
        content["baselines"]["lora"]["variants"] = {"another": {"rank": 3}}
        content["baselines"]["lora"]["rows"] = [*content["baselines"]["lora"].get("rows", ["*"]), "another"]

    before, after = paper().blocks("swinir"), paper(add).blocks("swinir")
    assert set(after) - set(before) == {"lora.another"}
    assert {name: after[name] for name in before} == before


def test_a_baseline_file_may_not_take_the_name_of_external_models(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "external.py").write_text((repository / "baselines/lora.py").read_text())
    with pytest.raises(UserError, match=r"external\.py: invalid baseline name 'external'"):
        Matrix.of(paper().profile, "paper.yaml", [tmp_path])


@pytest.mark.parametrize("key", ["train", "validation"])
def test_rows_that_train_need_data(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile without any needs none, whether it leaves `training` out or runs no variant."""
    monkeypatch.setattr("adaptsr.runs.validation._check_weights", lambda _: None)
    with pytest.raises(UserError, match=rf"paper\.yaml: data\.{key}: missing, but arc/svd50 trains"):
        check(paper(lambda content: content["data"].pop(key)))
    for nothing in (
        lambda content: content.update(baselines=baselines({})),
        lambda content: [content.pop(key) for key in ("training", "baselines")],
    ):
        matrix = paper(
            lambda content, nothing=nothing: (
                content["data"].pop(key),
                content["report"].pop("comparisons"),
                nothing(content),
            )
        )  # type: ignore[misc]
        check(matrix)
        assert estimate(matrix).backbones[0].runs == 0
        assert {row.kind for row in matrix.rows} == {"unadapted", "external"}
