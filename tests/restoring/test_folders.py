"""Folders of photographs: resumable, bounded in memory, nothing replaced, nothing lost."""

from __future__ import annotations

import errno
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from adaptsr.backbones.inference import restore
from adaptsr.errors import UserError
from adaptsr.restoring import folders, naturalness
from adaptsr.restoring.folders import restore_photographs
from adaptsr.restoring.models import Restorer, load_restorer
from adaptsr.restoring.page import write_comparison
from tests.backbones.test_tiles import toned
from tests.factories import noise, refusal


def write(path: Path, size: tuple[int, int] = (40, 30)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(path.name, *size).permute(1, 2, 0).numpy()).save(path)
    return path


def run(restorer: Restorer, *inputs: Path, out: Path) -> tuple[list[str], list[str]]:
    """The names of the restored photographs with the problems, and the lines of progress."""
    said: list[str] = []
    jobs, problems = restore_photographs(restorer, inputs, out, said.append)
    return [job.target.name for job in jobs] + problems, said


def test_a_finished_photograph_is_left_alone(doubling: Restorer, tmp_path: Path) -> None:
    for name in ("a.png", "b.jpg"):
        write(tmp_path / "in" / name)
    out = tmp_path / "out"
    assert run(doubling, tmp_path / "in", out=out)[0] == ["a.png", "b.png"]
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    write(tmp_path / "in" / "c.png")
    names, said = run(doubling, tmp_path / "in", out=out)
    assert names == ["a.png", "b.png", "c.png"]
    assert "2 of 3 photographs are restored already" in said[0]
    assert {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}.items() >= times.items()


def test_a_stop_in_the_middle_leaves_no_torn_file(
    doubling: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.png", (200, 40))
    tiles = 0

    def stopping(*arguments: Any) -> Any:
        nonlocal tiles
        tiles += 1
        if tiles == 3:
            raise KeyboardInterrupt
        return restore_levels(*arguments)

    restore_levels = folders.restore_levels
    monkeypatch.setattr(folders, "restore_levels", stopping)
    monkeypatch.setattr(folders, "free_memory", lambda device: 2**20)
    with pytest.raises(KeyboardInterrupt):
        run(doubling, tmp_path / "a.png", out=tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [".lock"]
    assert run(doubling, tmp_path / "a.png", out=tmp_path / "out")[0] == ["a.png"]


def test_a_full_disk_is_one_line_and_the_next_try_goes_on(
    doubling: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a.png", "b.png"):
        write(tmp_path / "in" / name)

    def full(path: Path, photograph: Any, *others: Any) -> None:
        if path.name == "b.png":
            raise UserError(f"{path}: cannot be written: No space left on device; make room")
        write_photograph(path, photograph, *others)

    write_photograph = folders.write_photograph
    with monkeypatch.context() as patched:
        patched.setattr(folders, "write_photograph", full)
        names, _ = run(doubling, tmp_path / "in", out=tmp_path / "out")
    assert names[0] == "a.png"
    assert "No space left" in names[1]
    assert run(doubling, tmp_path / "in", out=tmp_path / "out")[0] == ["a.png", "b.png"]


def test_a_damaged_photograph_does_not_stop_the_others(doubling: Restorer, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.png")
    cut = write(tmp_path / "in" / "b.png")
    cut.write_bytes(cut.read_bytes()[:-500])
    write(tmp_path / "in" / "c.png")
    names, _ = run(doubling, tmp_path / "in", out=tmp_path / "out")
    assert names[:2] == ["a.png", "c.png"]
    assert "b.png: unreadable or truncated" in names[2]


class TestNothingIsReplaced:
    def test_two_photographs_of_one_name(self, doubling: Restorer, tmp_path: Path) -> None:
        one, other = write(tmp_path / "a.png"), write(tmp_path / "a.jpg")
        said = refusal(lambda: run(doubling, one, other, out=tmp_path / "out"))
        assert "would both become" in said
        assert not (tmp_path / "out").exists()

    def test_the_photograph_itself(self, doubling: Restorer, tmp_path: Path) -> None:
        path = write(tmp_path / "a.png")
        before = path.read_bytes()
        assert "would replace it" in refusal(lambda: run(doubling, path, out=tmp_path))
        assert path.read_bytes() == before

    @pytest.mark.parametrize("change", ["model", "photograph", "not ours"])
    def test_what_was_made_otherwise(self, doubling: Restorer, tmp_path: Path, change: str) -> None:
        path, out = write(tmp_path / "a.png"), tmp_path / "out"
        run(doubling, path, out=out)
        if change == "model":
            doubling = replace(doubling, digest="e" * 64)
        else:
            write({"photograph": path, "not ours": out / "a.png"}[change], (10, 10))
        before = (out / "a.png").read_bytes()
        assert "a.png: exists, and is not" in refusal(lambda: run(doubling, path, out=out))
        assert (out / "a.png").read_bytes() == before


class TestMemory:
    def test_little_memory_makes_small_tiles_with_the_same_result(
        self, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        restorer = load_restorer(repository / "resources/demo/edsr.safetensors")
        path = write(tmp_path / "a.png", (120, 95))
        monkeypatch.setattr(folders, "free_memory", lambda device: 2**20)
        run(restorer, path, out=tmp_path / "out")
        with Image.open(tmp_path / "out/a.png") as image:
            found = np.asarray(image).astype(int)
        whole = restore(restorer.model, noise("a.png", 120, 95)[None])[0].permute(1, 2, 0).numpy()
        assert np.abs(found - whole).max() <= 1

    def test_too_large_tiles_are_made_smaller(
        self, doubling: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What is free now may be taken by another program in a second."""
        path = write(tmp_path / "a.png", (300, 300))
        sizes: list[int] = []

        def scarce(restorer: Restorer, kind: Any, levels: Any) -> Any:
            sizes.append(levels.shape[0] * levels.shape[1])
            if sizes[-1] > 100**2:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")
            return restore_levels(restorer, kind, levels)

        restore_levels = folders.restore_levels
        monkeypatch.setattr(folders, "free_memory", lambda device: 2**30)
        monkeypatch.setattr(folders, "restore_levels", scarce)
        run(doubling, path, out=tmp_path / "out")
        assert sizes[0] == 300**2
        with Image.open(tmp_path / "out/a.png") as image:
            expected = noise("a.png", 300, 300).repeat_interleave(2, 1).repeat_interleave(2, 2)
            assert np.array_equal(np.asarray(image), expected.permute(1, 2, 0).numpy())

    def test_tiles_that_are_not_the_whole_are_said(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(folders, "free_memory", lambda device: 2**24)
        _, said = run(
            Restorer(toned(0.1), "toned", "t" * 64), write(tmp_path / "a.png", (400, 300)), out=tmp_path / "out"
        )
        assert "toned looks at the whole image" in said[0]
        assert "levels of 255" in said[0]
        monkeypatch.setattr(folders, "free_memory", lambda device: 2**32)
        _, said = run(Restorer(toned(0.1), "toned", "t" * 64), tmp_path / "a.png", out=tmp_path / "other")
        assert said == [f"{tmp_path / 'other/a.png'}: 600x800 (100%)"]

    def test_never_enough_is_said(self, doubling: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def none_left(*arguments: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(folders, "restore_levels", none_left)
        names, _ = run(doubling, write(tmp_path / "a.png"), out=tmp_path / "out")
        assert "takes more memory than is free" in names[0]


@pytest.mark.slow
def test_a_hundred_megapixels_take_little_memory(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The restored photograph alone would take 400 MB, its tensors many times as much.

    VmHWM is the peak of this process alone. `ru_maxrss` would start from the peak of its parent, the test runner.
    """
    Image.new("L", (12_500, 8_000), 90).save(tmp_path / "wall.png")
    script = (
        "import re; from pathlib import Path; from tests.restoring.conftest import make_doubling;"
        "from adaptsr.restoring.folders import restore_photographs;"
        f"jobs, problems = restore_photographs(make_doubling(), [Path('{tmp_path}/wall.png')], Path('{tmp_path}/out'), print);"
        "assert problems == []; print(re.search(r'VmHWM:\\s*(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=repository, capture_output=True, text=True, check=True)
    assert 1024 * int(done.stdout.splitlines()[-1]) < 3e9
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(tmp_path / "out/wall.png") as image:
        assert image.size == (25_000, 16_000)


def test_time_left_is_said(doubling: Restorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SECONDS_BETWEEN_LINES", -1.0)
    for name in ("a.png", "b.png"):
        write(tmp_path / "in" / name)
    _, said = run(doubling, tmp_path / "in", out=tmp_path / "out")
    assert "(50%, about 0 s left)" in said[0]
    assert said[-1].endswith("b.png: 60x80 (100%)")


def test_the_page_compares_every_photograph(
    doubling: Restorer, tmp_path: Path, no_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naturalness, "fetch_all", lambda wanted: {"niqe": "network weights not available"})
    write(tmp_path / "in/a.png", (120, 200))
    Image.new("LA", (20, 14), (90, 10)).save(tmp_path / "in/b.png")
    Image.new("CMYK", (20, 14)).save(tmp_path / "in/c.tif")
    jobs, _ = restore_photographs(doubling, [tmp_path / "in"], tmp_path / "out", lambda line: None)
    page = write_comparison(doubling, jobs, tmp_path / "out", lambda line: None).read_text()
    assert page.count('<article class="picture"') == 3
    assert "NIQE is missing: network weights not available." in page
    for number, name in enumerate(("a.png", "b.png", "c.tif"), start=1):
        assert name in page
        with Image.open(tmp_path / f"out/compare/{number}-restored.png") as image:
            side = 2 * min(96, 120 if number == 1 else 14)
            assert image.size == (side, side)


def test_a_disk_that_fills_while_the_page_is_drawn_is_one_line(
    doubling: Restorer, tmp_path: Path, no_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(naturalness, "fetch_all", lambda wanted: {"niqe": "network weights not available"})
    write(tmp_path / "a.png")
    jobs, _ = restore_photographs(doubling, [tmp_path / "a.png"], tmp_path / "out", lambda line: None)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", full)
        said = refusal(lambda: write_comparison(doubling, jobs, tmp_path / "out", lambda line: None))
    assert "No space left on device; make room and run the same command again" in said
    assert [job.target.name for job in jobs if job.target.exists()] == ["a.png"]
    assert write_comparison(doubling, jobs, tmp_path / "out", lambda line: None).is_file()


def test_niqe_on_the_page_is_that_of_the_known_answers(
    doubling: Restorer, assets: Path, tmp_path: Path, use_real_weights: Path
) -> None:
    score, missing = naturalness.measure_naturalness()
    assert missing == ""
    known = pd.read_csv(assets / "known_answers/osediff_realsr_no_reference.csv").set_index("image")["niqe"]
    for name, niqe in known.items():
        with Image.open(assets / f"known_answers/{name}.png") as image:
            assert float(score(np.asarray(image.convert("RGB")))) == pytest.approx(niqe, abs=0.01)
    assert score(np.zeros((20, 20, 3), np.uint8)) == "-"
    write(tmp_path / "a.png", (120, 200))
    jobs, _ = restore_photographs(doubling, [tmp_path / "a.png"], tmp_path / "out", lambda line: None)
    page = write_comparison(doubling, jobs, tmp_path / "out", lambda line: None).read_text()
    assert re.search(r"NIQE ↓ \d+\.\d\d", page)


class TestWhatRestores:
    def test_a_checkpoint(self, repository: Path) -> None:
        restorer = load_restorer(repository / "resources/demo/safmn.safetensors")
        assert (restorer.name, restorer.scale) == ("safmn.safetensors", 4)

    def test_a_folder_without_a_run_is_refused(self, tmp_path: Path) -> None:
        assert "no run in this folder" in refusal(lambda: load_restorer(tmp_path))
