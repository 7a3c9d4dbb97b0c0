"""The published numbers: they agree with each other where the paper prints a thing twice, and are read as printed."""

from __future__ import annotations

import pytest

from adaptsr.adaptation.baseline_files import discover
from adaptsr.papers import published_tables
from adaptsr.reporting.published import PublishedRow, read_published
from tests.factories import matrix_of, profile_content

TABLES = sorted(published_tables("adaptsr"))


def by_row(table: str, dataset: str = "realsr") -> dict[str, PublishedRow]:
    return {row.rows[0]: row for row in read_published("adaptsr", table) if row.rows and row.dataset == dataset}


@pytest.mark.parametrize(
    ("table", "count"), [("table1.csv", 54), ("table2.csv", 8), ("table3.csv", 12), ("table4.csv", 6)]
)
def test_every_row_of_the_paper_is_there(table: str, count: int) -> None:
    assert len(read_published("adaptsr", table)) == count


@pytest.mark.parametrize("table", TABLES)
def test_values_are_numbers_and_rows_name_baseline_files(table: str) -> None:
    files = discover()
    for row in read_published("adaptsr", table):
        printed = [value for value in row.values.values() if value != "not printed" and " above uniform" not in value]
        assert all(float(value) > 0 for value in printed)
        for name in row.rows:
            assert name == "unadapted" or name.partition("/")[0] in {*files, "external"}


def test_what_the_paper_prints_twice_is_the_same() -> None:
    """Table 3 has the runs of Table 2 with other digits, Table 1 its adapted model, Section 4.4 a gain of 0.07 dB."""
    table2, table3 = by_row("table2.csv"), by_row("table3.csv")
    for row in ("unadapted", "full_finetuning/all", "rank_aware/gradient"):
        same = {**table2[row].values, "psnr_y": f"{float(table2[row].values['psnr_y']):.2f}"}
        assert table3[row].values == {name: same[name] for name in ("psnr_y", "ssim_y", "lpips")}
    table1 = read_published("adaptsr", "table1.csv")
    [adapted] = (row for row in table1 if (row.label, row.dataset) == ("AdaptSR (Ours)", "realsr"))
    assert adapted.values == {**table2["rank_aware/gradient"].values, "psnr_y": "28.47"}
    gain = float(table2["rank_aware/gradient"].values["psnr_y"]) - float(table2["lora/r8"].values["psnr_y"])
    assert round(gain, 2) == 0.07


def test_adaptsr_gan_stands_beside_its_published_row_and_goes_on_from_adaptsr() -> None:
    matrix = matrix_of(profile_content("paper"))
    for published in read_published("adaptsr", "table1.csv"):
        if published.label == "AdaptSR-GAN (Ours)":
            [name] = published.rows
            assert [row.name for row in matrix.rows_on(published.backbone) if row.name == name] == [name]
    assert matrix.start(name) == "rank_aware/gradient"
    training = matrix.training(matrix.variant(name), "swinir")
    assert training.objective.terms == {"l1": 1.0, "perceptual": 1.0, "gan": 0.1}
    assert (training.lr, training.ema, training.iterations) == (1e-4, 0.999, matrix.profile.training.iterations)
