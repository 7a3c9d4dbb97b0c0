"""Run the contract's checks on a baseline file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from adaptsr import files
from adaptsr.adaptation.baseline_files import (
    Variant,
    read_literals,
)
from adaptsr.adaptation.contract.backbones import calibration, small_backbone
from adaptsr.adaptation.contract.checks import CHECKS, RELOAD_TOLERANCE, ContractBroken, check_literals, difference
from adaptsr.adaptation.contract.subjects import CannotMerge, Subject, subjects
from adaptsr.adaptation.reparametrization import (
    Plan,
    load_adaptation,
)
from adaptsr.errors import UserError
from adaptsr.project import CHECKOUT
from adaptsr.tensors import load_tensors

Progress = Callable[[str], None]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check; `variant` and `backbone` are empty for a check of the file as a whole."""

    check: str
    status: Literal["passed", "failed", "skipped"]
    message: str = ""
    variant: str = ""
    backbone: str = ""

    def __str__(self) -> str:
        where = " on ".join(part for part in (self.variant, self.backbone) if part)
        said = f": {self.message}" if self.message else ""
        return f"{self.status}: {f'{where}: ' if where else ''}{self.check}{said}"


def check_subject(subject: Subject) -> Iterator[CheckResult]:
    """Yield the results of all checks of a variant on a backbone, or one skipped result if it refuses the backbone."""
    try:
        _ = subject.attached
    except UserError as refusal:
        yield _result(subject, "takes this backbone", "skipped", str(refusal))
        return
    except Exception as error:
        yield _result(subject, "takes this backbone", "failed", one_line(error))
        return
    for name, check in CHECKS.items():
        try:
            check(subject)
            yield _result(subject, name, "passed", "")
        except CannotMerge as refusal:
            yield _result(subject, name, "skipped", str(refusal))
        except Exception as error:
            yield _result(subject, name, "failed", one_line(error))


def _result(subject: Subject, check: str, status: Literal["passed", "failed", "skipped"], message: str) -> CheckResult:
    return CheckResult(check, status, message, subject.variant.row, subject.name)


def check_baseline(path: Path, progress: Progress = lambda line: None) -> list[CheckResult]:
    """Check a baseline file: its literals, its variants on the small backbones, and reloading in a fresh process.

    Skips a backbone that the file refuses with a `UserError`; the file must accept at least one. `progress` receives a
    line per variant and backbone. Raises `UserError` if the file cannot be read.
    """
    file = read_literals(path.resolve())
    results = [_file_check("literals", lambda: check_literals(file))]
    with tempfile.TemporaryDirectory() as temporary:
        folders = []
        for variant, backbone in subjects(file):
            subject = Subject.of(variant, backbone)
            found = list(check_subject(subject))
            if any(r.status == "passed" for r in found) and not any(r.status == "failed" for r in found):
                folders.append(Path(temporary) / variant.name / backbone)
                subject.save(folders[-1])
            results += found
            progress(_summary(variant, backbone, found))
        results += check_fresh_process(folders)
    results.append(_file_check("takes a backbone", lambda: check_takes_a_backbone(results)))
    return results


def check_takes_a_backbone(results: Sequence[CheckResult]) -> None:
    planned = [result for result in results if result.backbone]
    if planned and all(result.status == "skipped" for result in planned):
        raise ContractBroken(f"the file refuses every backbone; {planned[0].backbone} with: {planned[0].message}")


def _file_check(name: str, check: Callable[[], None]) -> CheckResult:
    try:
        check()
    except Exception as error:
        return CheckResult(name, "failed", one_line(error))
    return CheckResult(name, "passed")


def _summary(variant: Variant, backbone: str, results: Iterable[CheckResult]) -> str:
    wrong = [result for result in results if result.status != "passed"]
    said = "; ".join(f"{result.status}: {result.check}: {result.message}" for result in wrong)
    return f"{variant.row} on {backbone}: {said or 'ok'}"


def check_fresh_process(folders: Sequence[Path]) -> list[CheckResult]:
    """Load all saved subjects in one new process, without data, and compare their outputs."""
    if not folders:
        return []
    paths = os.pathsep.join([str(CHECKOUT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "adaptsr.adaptation.contract.run", str(torch.get_num_threads()), *map(str, folders)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        return [CheckResult("fresh process", "failed", f"the process ended with status {done.returncode}: {last}")]
    results = []
    for folder in folders:
        saved = files.read_json(folder / "subject.json", "the files of a contract check")
        row = f"{Path(saved['path']).stem}/{saved['variant']}"
        outcome = files.read_json(folder / "reloaded.json", "the files of a contract check")
        message = str(outcome["message"])
        results.append(CheckResult("fresh process", "failed" if message else "passed", message, row, saved["backbone"]))
    return results


def reload_saved(folder: Path) -> None:
    """Attach and load one saved subject and compare its output; runs in the process of `check_fresh_process`."""
    saved = files.read_json(folder / "subject.json", "the files of a contract check")
    variant = Variant(read_literals(Path(saved["path"])), saved["variant"], saved["options"])
    message = ""
    try:
        subject = Subject(variant, saved["backbone"], small_backbone(saved["backbone"]), calibration)
        model = subject.attach(Plan.load(folder))
        load_adaptation(model, load_tensors(folder / "adaptation.safetensors")[0], "the saved adaptation")
        expected = load_tensors(folder / "output.safetensors")[0]["output"]
        found = difference(subject.output(model), expected)
        if not found <= RELOAD_TOLERANCE:
            message = f"the output differs by {found:.1e} when the adaptation is loaded in a fresh process"
    except Exception as error:
        message = one_line(error)
    files.write_json(folder / "reloaded.json", {"message": message})


def one_line(error: Exception) -> str:
    text = " ".join(str(error).split())[:400]
    return text if isinstance(error, ContractBroken | UserError) else f"{type(error).__name__}: {text}"


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    for argument in sys.argv[2:]:
        reload_saved(Path(argument))
