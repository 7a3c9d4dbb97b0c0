"""The tables say completely and without contradiction what can be fetched; a mistake in them is one line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from adaptsr.config.reading import load_profile
from adaptsr.config.schema import Archive
from adaptsr.data.catalogue import Images, read_catalogue, weights_file
from tests.data.tables import write_tables
from tests.factories import refusal

SOURCE = {
    "name": "set-hr",
    "version": "1",
    "file": "set.zip",
    "address": "https://example.org/set.zip",
    "licence": "none",
    "fetch": "http",
}
WEIGHTS = SOURCE | {"name": "net", "file": "net.pth"}
PART = {"name": "set", "scale": "4", "split": "test", "lr": "set-hr:lr/{name}.png", "hr": "set-hr:hr/{name}.png"}


TABLES = {"archives": [SOURCE], "datasets": [PART], "weights": [WEIGHTS]}


class TestOurTables:
    def test_the_rows_that_the_paper_profile_names_are_there(self, repository: Path) -> None:
        catalogue = read_catalogue()
        profile = load_profile(repository / "config/paper.yaml")
        rows = {dataset.row for dataset in profile.datasets.values() if isinstance(dataset, Archive)}
        assert rows
        assert rows <= catalogue.datasets.keys()
        assert {backbone.weights for backbone in profile.backbones.values()} <= catalogue.weights.keys()

    @pytest.mark.parametrize(
        ("dataset", "split", "side", "path", "name"),
        [
            ("div2k-unknown-x4", "train", "lr", "DIV2K_train_LR_unknown/X4/0001x4.png", "0001"),
            ("div2k-unknown-x4", "train", "hr", "DIV2K_train_HR/0001.png", "0001"),
            ("div2k-bicubic-x4", "validation", "lr", "DIV2K_valid_LR_bicubic/X4/0801x4.png", "0801"),
            ("realsr-v3-x4", "train", "hr", "RealSR(V3)/Nikon/Train/4/Nikon_001_HR.png", "Nikon_001"),
            ("realsr-v3-x4", "test", "lr", "RealSR(V3)/Canon/Test/4/Canon_001_LR4.png", "Canon_001"),
            ("realsr-v3-x4", "test", "lr", "RealSR(V3)/Canon/Test/3/Canon_001_LR3.png", None),
            ("stablesr-div2k", "test", "lr", "StableSR_testsets/DIV2K_V2_val/lq/0801_pch_00001.png", "0801_pch_00001"),
            ("stablesr-realsr", "test", "hr", "StableSR_testsets/RealSRVal_crop128/test_HR/a_LR4.png", "a_LR4"),
            ("dped-iphone", "train", "hr", "dped/iphone/training_data/canon/17.jpg", "17"),
            ("dped-iphone", "train", "hr", "dped/sony/training_data/canon/17.jpg", None),
        ],
    )
    def test_paths_in_the_archives(self, dataset: str, split: str, side: str, path: str, name: str | None) -> None:
        part = next(part for part in read_catalogue().dataset(dataset) if part.split == split)
        assert {"lr": part.sides["lr"], "hr": part.sides["hr"]}[side].name_of(path) == name

    @pytest.mark.parametrize(
        ("dataset", "split", "pairs"),
        [
            ("div2k-bicubic-x4", "train", [800]),
            ("div2k-unknown-x4", "train", [800]),
            ("div2k-bicubic-x4", "validation", [100]),
            ("realsr-v3-x4", "test", [50, 50]),
            ("stablesr-div2k", "test", [3000]),
            ("stablesr-realsr", "test", [100]),
            ("stablesr-drealsr", "test", [93]),
        ],
    )
    def test_numbers_of_pairs(self, dataset: str, split: str, pairs: list[int]) -> None:
        assert [part.pairs for part in read_catalogue().dataset(dataset) if part.split == split] == pairs

    def test_crops_of_one_image_are_of_one_scene(self) -> None:
        (part,) = read_catalogue().dataset("stablesr-div2k")
        assert part.scene_of("0801_pch_00002") == "0801"

    def test_whatever_is_fetched_by_itself_has_a_published_checksum(self) -> None:
        assert all(source.checksum for source in read_catalogue().sources() if source.fetch != "manual")


def test_names_lead_to_files(tmp_path: Path) -> None:
    catalogue = read_catalogue(write_tables(tmp_path, **TABLES))
    assert [source.name for source in catalogue.sources()] == ["set-hr", "net"]
    assert [source.name for source in catalogue.sources(["set", "set-hr"])] == ["set-hr"]
    assert catalogue.archives["set-hr"].path == Path("resources/archives/set.zip")
    assert catalogue.weights["net"].path == Path("resources/weights/net.pth")
    said = "nett: no dataset, archive or weights of this name (did you mean 'net'?)"
    assert said in refusal(lambda: catalogue.sources(["nett"]))
    assert re.search(r"no dataset 'sett' .*there are set", refusal(lambda: catalogue.dataset("sett")))


def test_the_place_of_weights() -> None:
    assert weights_file("swinir-m-x4") == Path("resources/weights/001_classicalSR_DF2K_s64w8_SwinIR-M_x4.pth")
    assert weights_file("some/path.pth") is None


@pytest.mark.parametrize(
    ("pattern", "path", "name"),
    [
        ("a/{name}.png", "a/x.png", "x"),
        ("a/{name}.png", "a/b/x.png", None),
        ("a/{name}.png", "a/xypng", None),
        ("*/{name}.png", "a/x.png", "x"),
        ("*/{name}.png", "a/b/x.png", None),
        ("**/{name}.png", "a/b/x.png", "x"),
        ("**/{name}.png", "x.png", "x"),
        ("**/lr/{name}_*.png", "p/lr/a_b_LR4.png", "a_b"),
        ("r(V3)/{name}+.png", "r(V3)/x+.png", "x"),
    ],
)
def test_patterns(pattern: str, path: str, name: str | None) -> None:
    assert Images("archive", pattern).name_of(path) == name


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"archives": [SOURCE | {"address": "ftp://a/b"}]}, r"archives\.tsv:2: address: .*found 'ftp://a/b'"),
        ({"archives": [SOURCE | {"mirrors": "https://a/b|x"}]}, r"archives\.tsv:2: mirrors: "),
        ({"archives": [SOURCE | {"bytes": "many"}]}, r"archives\.tsv:2: bytes: .*found 'many'"),
        ({"archives": [SOURCE | {"checksum": "sha256:xyz"}]}, r"archives\.tsv:2: checksum: "),
        ({"archives": [SOURCE | {"checksum": "md5:0123"}]}, r"archives\.tsv:2: checksum: "),
        ({"archives": [SOURCE | {"fetch": "torrent"}]}, r"archives\.tsv:2: fetch: .*'http', 'gdrive' or 'manual'"),
        ({"archives": [SOURCE | {"file": "../x"}]}, r"archives\.tsv:2: file: "),
        ({"archives": [SOURCE | {"licence": ""}]}, r"archives\.tsv:2: licence: this cell is empty"),
        ({"archives": [SOURCE, SOURCE]}, r"archives\.tsv:3: name: 'set-hr' is already in line 2"),
        ({"weights": [WEIGHTS, WEIGHTS | {"name": "two"}]}, r"weights\.tsv:3: file: 'net\.pth' is already in line 2"),
        ({"weights": [WEIGHTS | {"name": "set"}]}, "'set' is used twice"),
        ({"datasets": [PART | {"lr": "set-hr:lr/x.png"}]}, r"datasets\.tsv:2: lr: .*\{name\} once"),
        ({"datasets": [PART | {"lr": "set-hr:{name}/x.png"}]}, r"datasets\.tsv:2: lr: .*last part"),
        ({"datasets": [PART | {"lr": "set-hr:x/{name}"}]}, r"datasets\.tsv:2: lr: the path must end in the suffix"),
        ({"datasets": [PART | {"hr": "set_hr:hr/{name}.png"}]}, r"datasets\.tsv:2: hr: no archive 'set_hr'.*'set-hr'"),
        ({"datasets": [PART, PART | {"scale": "2"}]}, r"datasets\.tsv:3: scale: 2 differs from 4"),
        ({"datasets": [PART, PART | {"scene": "_"}]}, r"datasets\.tsv:3: scene: '_' differs from ''"),
        ({"datasets": [PART | {"split": "valid"}]}, r"datasets\.tsv:2: split: .*found 'valid'"),
    ],
)
def test_mistakes_are_one_line_with_file_line_and_column(
    tmp_path: Path, tables: dict[str, list[dict[str, str]]], said: str
) -> None:
    assert re.search(said, refusal(lambda: read_catalogue(write_tables(tmp_path, **TABLES | tables))))


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path) -> None:
    """It begins with a byte-order mark, and its lines end in two characters."""
    read = read_catalogue(write_tables(tmp_path, **TABLES))
    for table in tmp_path.glob("*.tsv"):
        table.write_text(table.read_text().replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert read_catalogue(tmp_path) == read


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b"licence", b"license", "weights.tsv:1: unknown column 'license'; expected the columns name, version"),
        (b"\tnote", b"", "weights.tsv:1: missing column 'note'"),
        (b"net\t1", b"net", "weights.tsv:2: found 9 cells, expected 10"),
        (b"name", b"\xff\xfe", "weights.tsv: not a text file in UTF-8"),
    ],
)
def test_mistakes_of_the_table_itself(tmp_path: Path, old: bytes, new: bytes, said: str) -> None:
    table = write_tables(tmp_path, **TABLES) / "weights.tsv"
    table.write_bytes(table.read_bytes().replace(old, new, 1))
    assert said in refusal(lambda: read_catalogue(tmp_path))
    table.unlink()
    assert "weights.tsv: cannot read this table: No such file" in refusal(lambda: read_catalogue(tmp_path))
