"""What a profile runs where, and what makes its runs stale."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from adaptsr.config.mistakes import validate
from adaptsr.config.schema import RESERVED_DATASETS
from adaptsr.data.catalogue import read_catalogue
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix

Change = Callable[[dict[str, Any]], None]


def paper(repository: Path, change: Change = lambda content: None) -> Matrix:
    content = yaml.safe_load((repository / "config/paper.yaml").read_text())
    change(content)
    return Matrix.of(validate(content, Path("paper.yaml")), "paper.yaml")


def only(pattern: str, backbones: list[str]) -> Change:
    def change(content: dict[str, Any]) -> None:
        content["baselines"]["lora"]["only"] = {pattern: backbones}

    return change


def test_table_4_is_run_on_swinir_alone(repository: Path) -> None:
    """EDSR and SAFMN have neither attention nor MLP sites; everything else is run everywhere."""
    matrix = paper(repository)
    on = {name: {row.name for row in matrix.rows_on(name)} for name in matrix.profile.backbones}
    of_table_4 = {f"lora/table4-{kind}" for kind in ("conv", "mlp", "attention")}
    of_table_4 |= {f"full_finetuning/{kind}" for kind in ("conv", "mlp", "attention")}
    assert on["swinir"] - on["edsr"] == of_table_4
    assert on["edsr"] == on["safmn"] == on["drct"]


def test_external_models_are_rows_of_no_backbone(repository: Path) -> None:
    matrix = paper(repository)
    assert [row.name for row in matrix.rows_on(None)] == [f"external/{name}" for name in matrix.profile.external]
    assert not any(row.trained for row in matrix.rows_on(None))
    assert not any(row.name.startswith("external/") for row in matrix.rows_on("swinir"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (only("table5-*", ["swinir"]), r"baselines\.lora\.only: 'table5-\*' is none of the rows"),
        (only("r8", ["swimir"]), r"baselines\.lora\.only: no backbone 'swimir' \(did you mean 'swinir'\?\)"),
    ],
)
def test_a_mistaken_restriction_is_one_line(repository: Path, change: Change, said: str) -> None:
    with pytest.raises(UserError, match=said):
        paper(repository, change)


def test_an_optional_dataset_waits_for_the_archive_that_only_a_person_can_get(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "drealsr" not in [test.dataset for test in paper(repository).tests]
    archive = read_catalogue().archives["drealsr-test"].path
    archive.parent.mkdir(parents=True)
    archive.touch()
    assert "drealsr" in [test.dataset for test in paper(repository).tests]


def test_every_variant_has_a_title_of_its_own(repository: Path) -> None:
    """Rows are known by their titles wherever they are drawn."""
    matrix = paper(repository)
    titles = [
        matrix.variant(f"{name}/{variant}").title
        for name, file in matrix.baselines.items()
        for variant in file.variants
    ]
    assert sorted(titles) == sorted(set(titles))


@pytest.mark.parametrize("size", [1, 2, 100])
def test_scoring_jobs_are_blocks_of_whole_rows(repository: Path, size: int) -> None:
    def change(content: dict[str, Any]) -> None:
        content["scoring"]["rows_per_job"] = size

    matrix = paper(repository, change)
    for backbone in matrix.backbones:
        blocks = matrix.blocks(backbone)
        assert [row for part in blocks.values() for row in part] == matrix.rows_on(backbone)
        assert all(len(part) <= size for part in blocks.values())
        assert (len(blocks) == 1) == (size >= len(matrix.rows_on(backbone)))


def test_a_new_variant_makes_its_own_block_only(repository: Path) -> None:
    def add(content: dict[str, Any]) -> None:
        content["baselines"]["lora"]["variants"] = {"another": {"rank": 3}}
        content["baselines"]["lora"]["rows"] = [*content["baselines"]["lora"].get("rows", ["*"]), "another"]

    before, after = paper(repository).blocks("swinir"), paper(repository, add).blocks("swinir")
    assert set(after) - set(before) == {"lora.another"}
    assert {name: after[name] for name in before} == before


@pytest.mark.parametrize("name", RESERVED_DATASETS)
def test_a_dataset_may_not_take_a_folder_that_holds_something_else(repository: Path, name: str) -> None:
    def add(content: dict[str, Any]) -> None:
        content["datasets"][name] = {"kind": "archive", "row": "div2k-bicubic-x4"}

    with pytest.raises(UserError, match=f"datasets: {name!r} is reserved"):
        paper(repository, add)


def test_a_backbone_may_not_take_the_name_of_external_models(repository: Path) -> None:
    def add(content: dict[str, Any]) -> None:
        content["backbones"]["external"] = {"architecture": "edsr"}

    with pytest.raises(UserError, match="backbones: 'external' is reserved"):
        paper(repository, add)


def test_a_baseline_file_may_not_take_the_name_of_external_models(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "external.py").write_text((repository / "baselines/lora.py").read_text())
    content = yaml.safe_load((repository / "config/paper.yaml").read_text())
    with pytest.raises(UserError, match=r"external\.py: invalid baseline name 'external'"):
        Matrix.of(validate(content, Path("paper.yaml")), "paper.yaml", [tmp_path])


def test_a_table_of_an_unknown_dataset_is_one_line(repository: Path) -> None:
    def add(content: dict[str, Any]) -> None:
        content["report"]["tables"]["table4"]["datasets"] = ["drealsr_crop"]

    with pytest.raises(UserError, match=r"report\.tables\.table4\.datasets: no test dataset 'drealsr_crop'"):
        paper(repository, add)
