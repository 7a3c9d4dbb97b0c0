"""Measure everything that needs a GPU, in order of worth, within a budget of minutes.

    python -m speed.cuda --minutes 7 --out DIR [--parts PART ...] [--pairs DIR --weights MODEL.pth]
    python -m speed.cuda --tiny --device cpu --out DIR     # a rehearsal on a machine without a GPU

Every part is a process of its own and writes its figures to DIR as they come, so that a part that fails, or the end of the
time, costs nothing that was measured. A candidate that fails is a line with the reason. The last thing printed is the table.

check      gradients of every form of a step against plain autograd in float64
MODEL      the step of one of the paper's backbones, LoRA r = 8: time, peak memory, share of the card's rate
restoring  megapixels that a second restores
data       the share of a step that waits for its batch
seeds      five seeds at once on one GPU
scoring    scores of several methods beside pyiqa's command line
quality    bfloat16 beside float32 on real pairs (needs --pairs and --weights)
kills      a run that is killed ten times ends with the bytes of one that is not
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn, cast

import torch
from torch import nn
from torch.nn import functional

from adaptsr.adaptation.lora import attach_low_rank
from adaptsr.adaptation.reparametrization import freeze, trainable_parameters
from adaptsr.backbones.build import build
from adaptsr.backbones.inference import enlarge
from adaptsr.backbones.sites import find_sites
from adaptsr.config import reading, schema
from adaptsr.devices import prepare_device
from adaptsr.runs.matrix import Matrix
from adaptsr.tensors import load_tensors
from adaptsr.training.acceleration import accelerate
from adaptsr.training.context import TrainingContext
from adaptsr.training.regions import compile_regions
from adaptsr.training.step import Step
from adaptsr.training.train_runs import train_run
from baselines import lora
from speed import seeds
from speed.measuring import Figure

ROOT = Path(__file__).resolve().parent.parent
MODELS = ("swinir", "safmn", "edsr", "drct")
TINY: dict[str, dict[str, Any]] = {
    "swinir": {"embed_dim": 24, "depths": [2, 2], "num_heads": [2, 2]},
    "safmn": {"dim": 8, "n_blocks": 2},
    "edsr": {"num_feat": 16, "num_block": 2},
    "drct": {"embed_dim": 24, "depths": [6, 6], "num_heads": [2, 2], "gc": 8},
}
EVERY = 40
"""Iterations between two kills."""
PARTS = ("check", *MODELS, "restoring", "data", "seeds", "scoring", "quality", "kills")
FULL, PEFT = "full fine-tuning, float32 with TF32", "PEFT LoRA, float32 with TF32 (BasicSR's loop)"
OURS: dict[str, dict[str, str]] = {
    "ours, float32": {},
    "ours, bfloat16": {"precision": "bfloat16"},
    "ours, bfloat16, regions": {"precision": "bfloat16", "compile": "regions"},
    "ours, bfloat16, graphs": {"precision": "bfloat16", "compile": "graphs"},
    "ours, float32, graphs": {"compile": "graphs"},
}
TOLERANCE = {"float64": 1e-9, "float32": 1e-3, "bfloat16": 0.1}
"""Largest difference of a gradient from float64's, as a share of the largest gradient of its tensor."""


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the figures, one JSON line each")
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a size that only shows that the benchmark works")
    parser.add_argument("--pairs", type=Path, help="folder that holds lr/ and hr/, for `quality`")
    parser.add_argument("--weights", type=Path, help="a model that spandrel loads, for `quality`")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--train", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.train:
        _trained(options, options.train[0], Path(options.train[1]))
        return
    if options.part:
        _measure(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + 60 * options.minutes
    for part in options.parts:
        left = until - time.monotonic()
        reason = _in_own_process(part, options, left) if left > 5 else "no time was left"
        if reason:
            _write(options.out, part, Figure(f"{part}", None, "", note=f"not measured: {reason}"))
    print(_table(options.out))


def _in_own_process(part: str, options: argparse.Namespace, seconds: float) -> str:
    """Measure a part; return why it did not end well, or nothing."""
    words = ["--part", part, "--out", options.out, "--device", options.device, "--kills", options.kills]
    words += ["--tiny"] if options.tiny else []
    for name in ("pairs", "weights"):
        words += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    log = options.out / f"{part}.log"
    with log.open("w") as file:
        try:
            command = [sys.executable, "-m", "speed.cuda", *map(str, words)]
            done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, timeout=seconds)
        except subprocess.TimeoutExpired:
            return "the time ended"
    last = (log.read_text().strip().splitlines() or ["no output"])[-1]
    return f"{last[:160]} ({log.name})" if done.returncode else ""


def _measure(options: argparse.Namespace) -> None:
    prepare_device(schema.Compute(device=options.device))
    measure: Callable[[argparse.Namespace], Iterator[Figure]] = {
        "check": check_figures,
        "restoring": restoring_figures,
        "data": data_figures,
        "seeds": figures_of("seeds"),
        "scoring": figures_of("scoring", "--images", "8", "--methods", "2"),
        "quality": quality_figures,
        "kills": kill_figures,
    }.get(options.part, step_figures)
    for figure in measure(options):
        _write(options.out, options.part, figure)
        print(figure, flush=True)


def _write(folder: Path, part: str, figure: Figure) -> None:
    with (folder / "figures.jsonl").open("a") as file:
        file.write(json.dumps({"part": part, **asdict(figure)}) + "\n")


def _table(folder: Path) -> str:
    rows = [json.loads(line) for line in (folder / "figures.jsonl").read_text().splitlines()]
    width = max(len(row["what"]) for row in rows)
    lines = []
    for row in rows:
        value = "-" if row["value"] is None else f"{row['value']:.4g} {row['unit']}".strip()
        lines.append(f"{row['what']:<{width}}  {value:>14}  {row['note']}".rstrip())
    return "\n".join(lines)


def backbone(name: str, options: argparse.Namespace) -> nn.Module:
    """Build one of the paper's backbones with random weights for the crop of the benchmark."""
    declared = reading.load_profile(ROOT / "config/paper.yaml").backbones[name]
    torch.manual_seed(0)
    stated = {**declared.options, **(TINY[name] if options.tiny else {})}
    return build(declared.model_copy(update={"options": stated, "weights": None}), 4, _crop(options) // 4)


def _crop(options: argparse.Namespace) -> int:
    return 64 if options.tiny else 256


def _batch(options: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    size, crop = 2 if options.tiny else 8, _crop(options)
    lr, hr = (torch.rand(size, 3, side, side, generator=generator) for side in (crop // 4, crop))
    return lr.to(options.device), hr.to(options.device)


def with_lora(model: nn.Module, peft: bool = False) -> nn.Module:
    """Attach LoRA, r = 8, ours or Hugging Face's."""
    freeze(model)
    plan = lora.plan(model, find_sites(model), {**lora.OPTIONS, "rank": 8}, _no_data, 1)
    if not peft:
        attach_low_rank(model, plan)
        return model
    from peft import LoraConfig, inject_adapter_in_model

    return inject_adapter_in_model(LoraConfig(r=8, lora_alpha=1, target_modules=list(plan.settings["sites"])), model)


def _no_data(index: int) -> NoReturn:
    raise AssertionError(f"LoRA's plan asked for calibration batch {index}, but should not need data")


def _training(**changes: Any) -> schema.Training:
    sizes = {"iterations": 10**6, "batch_size": 8, "crop": 256, "lr": 1e-4, "validate_every": 10**6}
    return schema.Training.model_validate({**sizes, **changes})


def our_step(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor], **changes: Any) -> Step:
    """Make the step that trains the matrix, with one lasting batch."""
    training = _training(**changes)
    accelerate(model) if training.compile == "none" else compile_regions(model)
    context = SimpleNamespace(device=batch[0].device, sample=lambda *request: batch)
    return Step(cast(TrainingContext, context), model, training, 1)


def _plain_step(model: nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> Callable[[int], object]:
    """Make a step as BasicSR's loop takes it: float32 with TF32, the library's forms, a loss that is read each time."""
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    model.to(memory_format=torch.contiguous_format).train()  # type: ignore[call-overload]
    lr, hr = batch

    def step(iteration: int) -> float:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.use_deterministic_algorithms(False)
        optimizer.zero_grad()
        loss = functional.l1_loss(model(lr), hr)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return float(loss.detach())

    return step


def check_figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Compare the gradients of every form of a step with plain autograd in float64."""
    for name in ("edsr",) if options.tiny else MODELS:
        truth = _gradients(name, options, torch.float64, "none", plain=True)
        for precision, compiled in (
            ("float64", "none"),
            ("float32", "none"),
            ("float32", "regions"),
            ("bfloat16", "regions"),
        ):
            what = f"{name}, gradients, {precision}, compile {compiled}: largest difference from float64"
            dtype = torch.float64 if precision == "float64" else torch.float32
            try:
                found = _gradients(name, options, dtype, compiled, mixed=precision == "bfloat16")
            except Exception as error:
                yield Figure(what, None, "", note=_why(error))
                continue
            apart = max(
                float((found[key].double() - value).abs().max() / value.abs().max().clamp_min(1e-12))
                for key, value in truth.items()
            )
            yield Figure(what, apart, "", TOLERANCE[precision], note=f"expected at most {TOLERANCE[precision]:g}")


def _gradients(
    name: str, options: argparse.Namespace, dtype: torch.dtype, compiled: str, plain: bool = False, mixed: bool = False
) -> dict[str, torch.Tensor]:
    small = argparse.Namespace(**{**vars(options), "tiny": True})
    model = with_lora(backbone(name, small)).to(options.device, dtype)
    for module in model.modules():
        if type(module).__name__ == "DropPath":
            module.drop_prob = 0.0  # type: ignore[assignment]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    if not plain:
        accelerate(model) if compiled == "none" else compile_regions(model)
    lr, hr = (image.to(dtype) for image in _batch(small))
    model.train()
    with torch.autocast(lr.device.type, torch.bfloat16, enabled=mixed):
        restored = model(lr)
    functional.mse_loss(restored.to(hr), hr).backward()  # type: ignore[no-untyped-call]
    return {key: p.grad for key, p in trainable_parameters(model).items() if p.grad is not None}


def step_figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Measure the step of one backbone in every form."""
    name, batch = options.part, _batch(options)
    reference: float | None = None
    for kind in (PEFT, FULL, *OURS):
        what = f"{name}, {kind}: step"
        try:
            seconds, peak, first = _timed_step(name, kind, batch, options)
        except Exception as error:
            yield Figure(what, None, "", note=_why(error))
            continue
        finally:
            gc.collect()
            torch.cuda.empty_cache()
        reference = reference or (seconds if kind == PEFT else None)
        beside = f", {seconds / reference:.3f} of BasicSR's loop" if reference else ""
        yield Figure(
            what, 1000 * seconds, "ms", note=f"peak memory {peak / 2**20:.0f} MiB, first steps {first:.1f} s{beside}"
        )


def _timed_step(
    name: str, kind: str, batch: tuple[torch.Tensor, torch.Tensor], options: argparse.Namespace
) -> tuple[float, int, float]:
    """Return the median seconds of a step, the peak memory in bytes beyond the model, and the seconds of the first steps."""
    prepare_device(schema.Compute(device=options.device))  # a plain step changes these settings
    model = backbone(name, options).to(options.device)
    step: Callable[[int], object]
    if kind in OURS:
        step = our_step(with_lora(model), batch, **OURS[kind])
    else:
        step = _plain_step(model.requires_grad_(True) if kind == FULL else with_lora(model, peft=True), batch)
    model.to(options.device)
    cuda = options.device == "cuda"
    before = torch.cuda.memory_allocated() if cuda else 0
    torch.cuda.reset_peak_memory_stats() if cuda else None
    warm_up, rounds, steps = (5, 2, 1) if options.tiny else (6, 5, 6)
    began = time.perf_counter()
    for iteration in range(warm_up):
        step(iteration)
    _wait(cuda)
    first, seconds = time.perf_counter() - began, []
    for _ in range(rounds):
        began = time.perf_counter()
        for iteration in range(steps):
            step(iteration)
        _wait(cuda)
        seconds.append((time.perf_counter() - began) / steps)
    if cuda and kind == "ours, bfloat16, graphs":
        _profile(step, options.out / f"{name}-kernels.txt")
    return statistics.median(seconds), torch.cuda.max_memory_allocated() - before if cuda else 0, first


def _profile(step: Callable[[int], object], path: Path) -> None:
    """Write which kernels a step spends its time in."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for iteration in range(3):
            step(iteration)
        torch.cuda.synchronize()
    path.write_text(found.key_averages().table(sort_by="self_cuda_time_total", row_limit=40, max_name_column_width=90))


def _wait(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()


def restoring_figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Measure how many megapixels of HR a second restores, images of 339x510 LR pixels as in DIV2K."""
    height, width = (48, 64) if options.tiny else (339, 510)
    for name in MODELS:
        model = backbone(name, options).to(options.device)
        image = torch.rand(1, 3, height, width, device=options.device)
        for precision in ("float32", "bfloat16"):
            seconds = []
            for _ in range(4):
                began = time.perf_counter()
                with torch.autocast(options.device, torch.bfloat16, enabled=precision == "bfloat16"):
                    enlarge(model, image)
                _wait(options.device == "cuda")
                seconds.append(time.perf_counter() - began)
            rate = 16 * height * width / 1e6 / statistics.median(seconds[1:])
            yield Figure(f"{name}, restoring, {precision}", rate, "HR megapixels/s")


def data_figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Measure how long a batch takes to be drawn, degraded and moved to the device, in the training process itself."""
    from adaptsr.data.sampling import WeightedSource, sample_batch
    from adaptsr.data.store import PairSet

    crop, count = _crop(options), 4 if options.tiny else 16
    generator = torch.Generator().manual_seed(count)
    lr, hr = (
        [torch.randint(256, (3, side, side), generator=generator, dtype=torch.uint8) for _ in range(count)]
        for side in (crop // 2, 2 * crop)
    )
    names = [str(index) for index in range(count)]
    pairs = PairSet("random", 4, names, names, lr, hr)
    for degradation, share in ((None, "pairs"), (schema.Degradation(), "degraded on the fly")):
        source = WeightedSource(pairs, 1.0, degradation)
        began = time.perf_counter()
        rounds = 2 if options.tiny else 10
        for index in range(rounds):
            sample_batch([source], 1, index, 8, crop, 4, "train", torch.device(options.device))
        _wait(options.device == "cuda")
        yield Figure(f"a batch of 8, HR {crop}, {share}", 1000 * (time.perf_counter() - began) / rounds, "ms")


def figures_of(benchmark: str, *words: str) -> Callable[[argparse.Namespace], Iterator[Figure]]:
    """Return the figures of another benchmark, run as its own command."""

    def figures(options: argparse.Namespace) -> Iterator[Figure]:
        path = options.out / f"{benchmark}.json"
        tiny = ["--tiny"] if options.tiny else []
        subprocess.run([sys.executable, "-m", f"speed.{benchmark}", *words, *tiny, "--json", str(path)], check=True)
        yield from (Figure(**figure) for figure in json.loads(path.read_text())["figures"])

    return figures


def quality_figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Compare bfloat16 with float32 on real pairs."""
    if not (options.pairs and options.weights):
        yield Figure("quality of bfloat16 on real pairs", None, "", note="not measured: needs --pairs and --weights")
        return
    words = ["--data", str(options.pairs), "--weights", str(options.weights), "--iterations", "300"]
    words += ["--compile", "graphs" if options.device == "cuda" else "regions"]
    yield from figures_of("quality", *words)(options)


def kill_figures(options: argparse.Namespace) -> Iterator[Figure]:
    """Kill a run again and again; compare what it ends with to a run that was left alone, byte by byte."""
    for compiled in ("none", "graphs") if options.device == "cuda" else ("none",):
        folders = [options.out / f"{compiled}-{name}" for name in ("whole", "killed")]
        _train(options, compiled, folders[0]).wait()
        for kill in range(1, options.kills + 1):
            process = _train(options, compiled, folders[1])
            wanted = folders[1] / "checkpoints" / f"{kill * EVERY:09d}.safetensors"
            while process.poll() is None and not wanted.exists():
                time.sleep(0.02)
            process.kill()
            process.wait()
        _train(options, compiled, folders[1]).wait()
        resumed = json.loads((folders[1] / "record.json").read_text())["resumed_from"]
        states = [load_tensors(folder / "adaptation.safetensors")[0] for folder in folders]
        differing = sum(not torch.equal(states[0][name], states[1][name]) for name in states[0])
        note = f"of {len(states[0])}; the last process went on at iteration {resumed} of {(options.kills + 1) * EVERY}"
        what = f"safmn, compile {compiled}: tensors that differ after {options.kills} kills"
        yield Figure(what, float(differing), "", 0.0, note)


def _train(options: argparse.Namespace, compiled: str, folder: Path) -> subprocess.Popen[bytes]:
    words = ["--part", "kills", "--out", options.out, "--device", options.device, "--kills", options.kills]
    words += ["--train", compiled, folder, *(["--tiny"] if options.tiny else [])]
    return subprocess.Popen([sys.executable, "-m", "speed.cuda", *map(str, words)])


def _trained(options: argparse.Namespace, compiled: str, folder: Path) -> None:
    """Train a short run of SAFMN with the code that trains the matrix."""
    torch.manual_seed(0)  # the weights of the backbone
    bench = seeds.context(seeds.TINY if options.tiny else seeds.FULL, 1, options.device)
    profile = bench.matrix.profile
    changes = {
        "iterations": (options.kills + 1) * EVERY,
        "checkpoint_iterations": EVERY,
        "precision": "float32" if compiled == "none" else "bfloat16",
        "compile": compiled,
    }
    matrix = Matrix.of(profile.model_copy(update={"training": profile.training.model_copy(update=changes)}), seeds.ROW)
    bench = replace(bench, matrix=matrix)
    train_run(bench, matrix.variant(seeds.ROW), 1, folder, print, lambda: False)


def _why(error: Exception) -> str:
    return "failed: " + (str(error).strip().splitlines() or [type(error).__name__])[0][:160]


if __name__ == "__main__":
    main()
