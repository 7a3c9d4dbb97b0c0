"""The published numbers: they agree with each other where the paper prints a thing twice, and are read as printed."""

from __future__ import annotations

import pytest

from adaptsr.baselines import discover
from adaptsr.reporting.published import FOLDER, PublishedRow, read_published, shown_beside

TABLES = sorted(path.stem for path in FOLDER.glob("table*.csv"))


def by_row(table: str, dataset: str = "realsr") -> dict[str, PublishedRow]:
    return {row.rows[0]: row for row in read_published(table) if row.rows and row.dataset == dataset}


@pytest.mark.parametrize(("table", "count"), [("table1", 54), ("table2", 8), ("table3", 12), ("table4", 6)])
def test_every_row_of_the_paper_is_there(table: str, count: int) -> None:
    assert len(read_published(table)) == count


@pytest.mark.parametrize("table", TABLES)
def test_values_are_numbers_and_rows_name_baseline_files(table: str) -> None:
    files = discover()
    for row in read_published(table):
        assert all(float(value) > 0 for value in row.values.values())
        for name in row.rows:
            assert name == "unadapted" or name.partition("/")[0] in {*files, "outputs"}


def test_tables_2_and_3_print_the_same_runs_with_other_digits() -> None:
    table2, table3 = by_row("table2"), by_row("table3")
    for row in ("unadapted", "full_finetuning/all", "rank_aware/gradient"):
        assert f"{float(table2[row].values['psnr_y']):.2f}" == table3[row].values["psnr_y"]
        assert table2[row].values["ssim_y"] == table3[row].values["ssim_y"]
        assert table2[row].values["lpips"] == table3[row].values["lpips"]


def test_tables_1_and_2_print_the_same_adapted_model() -> None:
    adapted = next(row for row in read_published("table1") if row.label == "AdaptSR (Ours)" and row.dataset == "realsr")
    assert adapted.values == {**by_row("table2")["rank_aware/gradient"].values, "psnr_y": "28.47"}


def test_the_text_quotes_the_gain_of_table_2() -> None:
    """Section 4.4: rank-aware exceeds uniform r = 8 by 0.07 dB."""
    table2 = by_row("table2")
    gain = float(table2["rank_aware/gradient"].values["psnr_y"]) - float(table2["lora/r8"].values["psnr_y"])
    assert round(gain, 2) == 0.07


def test_which_published_dataset_stands_beside_which() -> None:
    table1, table2 = read_published("table1"), read_published("table2")
    assert shown_beside(table1, ["drealsr", "realsr"]) == {"drealsr": "drealsr", "realsr": "realsr"}
    assert shown_beside(table2, ["photos", "other"]) == {"photos": "realsr"}
    assert shown_beside(table2, ["realsr", "other"]) == {"realsr": "realsr"}
    assert shown_beside([], ["photos"]) == {}
    crops = {"realsr_crops": "realsr", "drealsr_crops": "drealsr", "div2k_crops": "div2k"}
    assert shown_beside(table1, [*crops, "realsr"]) == crops
