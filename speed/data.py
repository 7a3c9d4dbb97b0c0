"""Measure the start of training on a data set of DIV2K's size, its memory in eight processes, and the wait for batches.

    python -m speed.data [--tiny] [--folder FOLDER] [--json PATH]

The data set is made of random pixels: its packed files alone, as training never reads the images. FOLDER has to have room for them,
7 GB. What a GPU does to a batch is not measured here: a step is a pause of 15 ms, in which the processor is free.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from adaptsr import files
from speed.measuring import Figure, arguments, in_turns, ratio, report

ROOT = Path(__file__).resolve().parent.parent
GOAL_OF_START = 3.0
GOAL_OF_MEMORY = 1.2
GOAL_OF_WAITING = 0.05
STEP_SECONDS = 0.015
SCALE = 4
NEVER = 1_000_000


class Size(NamedTuple):
    """Images and their HR sides, crops of a batch, processes, and the steps that are timed."""

    images: int
    height: int
    width: int
    batch_size: int
    crop: int
    processes: int
    steps: int


DIV2K = Size(800, 1356, 2040, 8, 256, 8, 300)
TINY = Size(4, 96, 128, 2, 32, 2, 5)


def main(words: Sequence[str] | None = None) -> None:
    parser = arguments(
        argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    )
    parser.add_argument("--folder", type=Path, help="where to make the data set; default: a temporary folder")
    parser.add_argument("--child", choices=CHILDREN, help=argparse.SUPPRESS)
    parsed = parser.parse_args(words)
    size = TINY if parsed.tiny else DIV2K
    if parsed.child:
        CHILDREN[parsed.child](size)
        return
    if parsed.folder:
        parsed.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parsed.folder) as name:
        folder = Path(name)
        bytes_packed = make_workspace(folder, size)
        figures = [*starts(folder, size), *memory(folder, size, bytes_packed), *waits(folder, size)]
    report("data", size._asdict(), figures, parsed.json, "cpu")


def make_workspace(folder: Path, size: Size) -> int:
    """Make a working folder with a profile and a prepared data set; return the bytes of its packed files."""
    import numpy as np

    from adaptsr.data import packed
    from adaptsr.data.manifest import MANIFEST, Item, Manifest

    profile = yaml.safe_load((ROOT / "config/demo.yaml").read_text(encoding="utf-8"))
    profile.pop("tuning")
    profile.pop("pretraining")
    profile["datasets"] = {
        "big": {"kind": "pairs", "lr": "lr", "hr": "hr", "split": {"train": "rest", "validation": "last 1"}}
    }
    pair = {"dataset": "big", "split": "validation"}
    profile["data"] = {
        "train": [{"dataset": "big", "weight": 2}, {"dataset": "big", "degradation": {}}],
        "validation": pair,
        "test": [pair],
    }
    profile["training"].update(batch_size=size.batch_size, crop=size.crop)
    (folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    (folder / "resources").mkdir()
    (folder / "resources/demo").symlink_to(ROOT / "resources/demo")
    home = folder / "resources/big"
    total, splits = 0, {}
    for split, count in (("train", size.images), ("validation", 1)):
        names = [f"{split}{number}" for number in range(count)]
        for side, part in (("lr", SCALE), ("hr", 1)):
            shape = (size.height // part, size.width // part)
            for name in names:
                (home / side).mkdir(parents=True, exist_ok=True)
                (home / side / f"{name}.png").write_bytes(b"never read")
            path = home / packed.PACKED / f"{split}.{side}.npy"
            path.parent.mkdir(exist_ok=True)
            draw = np.random.default_rng(0)
            with path.open("wb") as file:
                file.write(packed.header([shape] * count))
                for _ in names:
                    file.write(draw.bytes(3 * shape[0] * shape[1]))
            states = [packed.state(home / side / f"{name}.png") for name in names]
            digest = files.file_sha256(path)
            index = packed.Index(
                content=files.digest([f"{side}{name}" for name in names]),
                files=states,
                sizes=[shape] * count,
                sha256=digest,
            )
            files.write_json(path.with_suffix(".json"), index.model_dump(mode="json"))
            total += path.stat().st_size
        splits[split] = [
            Item(name=n, scene=n, lr=f"lr/{n}.png", hr=f"hr/{n}.png", lr_sha256=f"lr{n}", hr_sha256=f"hr{n}")
            for n in names
        ]
    Manifest(dataset="big", scale=SCALE, kind="pairs", split_rule="", splits=splits).write(home / MANIFEST)
    return total


def starts(folder: Path, size: Size) -> list[Figure]:
    """Time a training process from its start to its first batch: the first on this machine, and one after it."""
    first, later = (run_child(folder, "start", size) for _ in range(2))
    return [
        Figure("first batch, packed files checked in full", first["total"], "s", None, "once on each machine"),
        Figure("first batch", later["total"], "s", GOAL_OF_START),
        Figure("of it, without the imports", later["total"] - later["imports"], "s"),
        Figure("first batch, processor time", later["processor"], "s", GOAL_OF_START, "whatever else the machine does"),
    ]


def memory(folder: Path, size: Size, packed: int) -> list[Figure]:
    """Compare the memory of processes that read all pixels with that of processes without data."""
    sums = []
    for child in ("reading", "idle"):
        processes = [start_child(folder, child, size) for _ in range(size.processes)]
        for process in processes:
            assert process.stdout
            process.stdout.readline()  # it has read everything
        sums.append(sum(proportional_memory(process.pid) for process in processes))
        for process in processes:
            process.communicate("\n")
    what = f"memory of {size.processes} processes less that without data, in packed files"
    return [Figure(what, (sums[0] - sums[1]) / packed, "", GOAL_OF_MEMORY, f"{packed / 1e9:.2f} GB packed")]


def proportional_memory(process: int) -> int:
    """Return the PSS of a process in bytes: shared pages count in part."""
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def waits(folder: Path, size: Size) -> list[Figure]:
    """Measure the share of a step of 15 ms that waits for its batch, with a process beside it and without."""
    done = run_child(folder, "waiting", size)
    note = f"{os.cpu_count()} cores"
    return [
        Figure("waiting, batches made ahead", done["ahead"], "", GOAL_OF_WAITING, note),
        Figure("waiting, batches made in turn", done["in_turn"], "", None, note),
        Figure("crops from npy over crops from Arrow", done["npy_over_arrow"], "", None, "time"),
    ]


def run_child(folder: Path, child: str, size: Size) -> dict[str, Any]:
    said, _ = start_child(folder, child, size).communicate("\n")
    done: dict[str, Any] = json.loads(said.splitlines()[-1])
    return done


def start_child(folder: Path, child: str, size: Size) -> subprocess.Popen[str]:
    tiny = ["--tiny"] if size == TINY else []
    return subprocess.Popen(
        [sys.executable, "-m", "speed.data", "--child", child, *tiny],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ADAPTSR_STARTED": str(time.time())},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# What the processes do


def _context() -> Any:
    from adaptsr.config.reading import load_profile
    from adaptsr.runs.matrix import Matrix
    from adaptsr.training.context import TrainingContext

    return TrainingContext.of(Matrix.of(load_profile(Path("profile.yaml")), "profile.yaml"), "safmn")


def _start(size: Size) -> None:
    import adaptsr.training.train_runs  # noqa: F401 (what a training process imports)

    imported = time.time()
    context = _context()
    context.sample(context.matrix.profile.training, 1, 0, "train")
    started = float(os.environ["ADAPTSR_STARTED"])
    took = {"total": time.time() - started, "imports": imported - started, "processor": time.process_time()}
    print(json.dumps(took))


def _idle(size: Size) -> None:
    import adaptsr.training.train_runs  # noqa: F401

    _wait()


def _reading(size: Size) -> None:
    context = _context()
    for source in context.sources:
        for image in (*source.pairs.lr, *source.pairs.hr):
            image.max()
    _wait()


def _wait() -> None:
    """Say that everything is read, and stay until all are measured: pages are divided among those that map them."""
    print(flush=True)
    sys.stdin.readline()


def _waiting(size: Size) -> None:
    from adaptsr.training.prefetching import made_ahead

    context = _context()
    make = context.cuts(context.matrix.profile.training, 1, "train")
    # A thread receives the next batch during a step, as torch's does on CUDA, which pins its memory.
    with made_ahead(make, 0, NEVER) as take, ThreadPoolExecutor(1) as thread:
        received = deque([thread.submit(take, 0)])

        def take_received(index: int) -> object:
            received.append(thread.submit(take, index + 1))
            return received.popleft().result()

        ahead = _share_of_waiting(take_received, size.steps)
    shares = {"ahead": ahead, "in_turn": _share_of_waiting(make, size.steps)}
    print(json.dumps({**shares, "npy_over_arrow": _npy_over_arrow(size)}))


def _share_of_waiting(take: Callable[[int], object], steps: int) -> float:
    """Return the share of time in which steps of a fixed length wait, after as many to warm up page cache and imports."""
    waited = 0.0
    for index in range(2 * steps):
        began = time.perf_counter()
        take(index)
        waited += time.perf_counter() - began if index >= steps else 0.0
        time.sleep(STEP_SECONDS)
    return waited / (waited + steps * STEP_SECONDS)


def _npy_over_arrow(size: Size) -> float:
    """Compare random crops from the packed file with crops from an Arrow file of the same bytes."""
    import numpy as np
    import pyarrow as pa

    path = Path("resources/big/packed/train.hr.npy")
    pixels = np.load(path, mmap_mode="r")
    length = 3 * size.height * size.width
    count = min(size.images, 100)
    schema = pa.schema([("pixels", pa.large_binary())])
    with pa.OSFile("images.arrow", "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for number in range(count):
            image = pixels[number * length : (number + 1) * length].tobytes()
            writer.write_batch(pa.record_batch([pa.array([image], pa.large_binary())], schema))
    table = pa.ipc.open_file(pa.memory_map("images.arrow")).read_all()
    column = table.column("pixels")

    def crops(image: Callable[[int], Any]) -> Callable[[], None]:
        def cut() -> None:
            draw = np.random.default_rng(0)
            for number, top, left in draw.random((1000, 3)):
                rows, columns = int(top * (size.height - size.crop)), int(left * (size.width - size.crop))
                found = image(int(number * count)).reshape(3, size.height, size.width)
                np.ascontiguousarray(found[:, rows : rows + size.crop, columns : columns + size.crop])

        return cut

    plain = np.asarray(pixels)
    candidates = {
        "npy": crops(lambda number: plain[number * length : (number + 1) * length]),
        "arrow": crops(lambda number: np.frombuffer(column[number].as_buffer(), np.uint8)),
    }
    return ratio(in_turns(candidates, 5), "npy", "arrow")


CHILDREN: dict[str, Callable[[Size], None]] = {
    "start": _start,
    "idle": _idle,
    "reading": _reading,
    "waiting": _waiting,
}

if __name__ == "__main__":
    main()
