"""`results` and `report --results` from the shell: a pack is reported and merged where neither data nor weights are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adaptsr.cli import main
from tests.cli.conftest import BASELINES


@pytest.fixture
def packed(author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> tuple[Path, Path]:
    """Pack the finished project from the method's folder, then remove its runs, data and weights."""
    project, folder = author
    assert main(["results", "pack", "-o", "mine.zip", "--by", "Ada", *BASELINES]) == 0
    assert capsys.readouterr().out == f"{folder / 'mine.zip'}: 1 of 1 runs\n"
    for name in ("results", "resources"):
        shutil.rmtree(project / name)
    return author


def test_a_pack_is_reported_as_it_is(packed: tuple[Path, Path]) -> None:
    project, folder = packed
    assert main(["report", "--results", "mine.zip", *BASELINES]) == 0
    page = (project / "reports/mine/index.html").read_text()
    assert "Of 1 runs" not in page
    assert "Gains" in page
    assert f"--results {folder / 'mine.zip'}" in page
    assert not (project / "results").exists()


def test_a_folder_of_packs_is_reported_by_the_profiles_they_name(
    author: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The settings of a profile, such as the folder of its data, are not asked for: nothing is there."""
    project, _ = author
    demo = (project / "config/demo.yaml").read_text()
    for name in ("phone", "camera"):
        text = demo.replace("name: demo\n", f"name: {name}\n").replace("title: 'Demo", "title: '${maker}", 1)
        (project / f"config/{name}.yaml").write_text(text)
        shutil.copytree(project / "results/demo", project / f"results/{name}")
        words = ["--profile", str(project / f"config/{name}.yaml"), "--set", "maker=Acme", *BASELINES]
        assert main(["results", "pack", *words, "-o", f"packs/{name}.zip"]) == 0
    for name in ("results", "resources"):
        shutil.rmtree(project / name)
    assert main(["report", "--results", "packs", *BASELINES]) == 0
    for name in ("phone", "camera"):
        page = (project / f"reports/{name}/index.html").read_text()
        assert "Gains" in page
        assert f"adaptsr report --profile config/{name}.yaml" in page
    (project / "config/phone.yaml").unlink()
    assert main(["report", "--results", "packs/phone.zip", *BASELINES]) == 2
    assert "made with the profile 'phone', but config/phone.yaml is missing" in capsys.readouterr().err


def test_a_merged_folder_is_reported(packed: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    project, _ = packed
    assert main(["results", "merge", "mine.zip", *BASELINES]) == 0
    said = capsys.readouterr()
    assert said.out == "results/demo: 1 runs added, 0 were there\n"
    assert said.err.startswith("mine.zip by Ada: 1 runs, new 1 on cpu (")
    assert main(["report", *BASELINES]) == 0
    assert main(["report", "--results", str(project / "results/demo"), "table2", *BASELINES]) == 0
    assert "Gains" in (project / "reports/demo/table2.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["results", "merge", "none.zip"], "none.zip: no such file; expected a pack, made by `adaptsr results pack`"),
        (["results", "pack", "-o", "empty.zip"], "resources/degraded/manifest.json: this dataset is not prepared"),
        (["report", "--results", "none.zip"], "none.zip: no such file; expected a pack"),
        (["results", "pack", "-o", "part.zip", "--seeds", "9"], "seeds=9: '9' names none of the seeds"),
    ],
)
def test_mistakes_are_one_line(
    packed: tuple[Path, Path], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, *BASELINES]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
