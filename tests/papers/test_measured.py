"""The results in papers/adaptsr/measured are those that their profiles ask for, and reported from a clone alone."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from adaptsr.cli import main
from adaptsr.config.reading import load_profile
from adaptsr.exchange.packs import about_of, records_of, unpacked
from adaptsr.project import VARIABLE
from adaptsr.runs.matrix import Matrix

MOST_BYTES = 2_000_000


def packs(repository: Path) -> list[Path]:
    return sorted((repository / "papers/adaptsr/measured").glob("*.zip"))


def test_packs_hold_what_their_profiles_ask_for(repository: Path) -> None:
    assert packs(repository)
    for pack in packs(repository):
        assert pack.stat().st_size <= MOST_BYTES
        names = zipfile.ZipFile(pack).namelist()
        assert not [name for name in names if name.endswith((".png", ".safetensors")) and "plan" not in name]
        with unpacked(pack) as folder:
            about = about_of(folder, str(pack))
            profile = load_profile(repository / f"config/{about.profile}.yaml", partly=True)
            matrix = replace(Matrix.of(profile, str(pack)), folder=folder)
            matches = matrix.matches()
            records = records_of(matrix, folder)
            assert {run.name for run in records} == set(about.runs)
            assert all(matches(run, record) for run, record in records.items())
            chosen = [name for name in names if name.startswith("tuning/choices/")]
            assert len(matrix.made_choices()) == len(chosen)


@pytest.mark.slow
def test_they_are_reported_where_nothing_else_is(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("config", "papers", "baselines", "Snakefile"):
        (tmp_path / name).symlink_to(repository / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert main(["report", "--results", "papers/adaptsr/measured"]) == 0
    for pack in packs(repository):
        page = (tmp_path / f"reports/{pack.stem}/index.html").read_text()
        assert f"adaptsr report --profile config/{pack.stem}.yaml" in page
