"""The record that a run leaves: its schema, and reading and writing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pydantic

from adaptsr.config.schema import Name
from adaptsr.errors import UserError
from adaptsr.files import digest, write_json
from adaptsr.runs.provenance import Provenance


class LossPoint(pydantic.BaseModel):
    """Mean training loss over the iterations since the point before; null where it is not a finite number."""

    iteration: int
    loss: float | None


class ValidationPoint(pydantic.BaseModel):
    """PSNR-Y in dB (BT.601, no crop, 8 bit) on the validation split, with seconds of training so far."""

    iteration: int
    psnr_y: float
    seconds: float


class RunRecord(pydantic.BaseModel):
    """`record.json` of one run (backbone x variant x seed)."""

    model_config = pydantic.ConfigDict(extra="forbid")

    job: str
    """What the profile and the baseline's file asked for (`Matrix.job_key`)."""
    data: str
    """The images it was trained on and the weights it started from (`Matrix.data_key`)."""
    status: Literal["finished", "diverged"]
    profile: Name
    backbone: Name
    baseline: Name
    variant: Name
    seed: int
    config: dict[str, Any]
    title: str
    extension: str | None
    notes: list[str]
    total_parameters: int
    trainable_parameters: int
    iterations: int
    resumed_from: int
    wall_seconds: float
    peak_memory_bytes: int
    start_psnr_y: float
    losses: list[LossPoint]
    validation: list[ValidationPoint]
    diverged_at: int | None = None
    adaptation_sha256: str | None = None
    plan_sha256: str | None = None
    provenance: Provenance

    @property
    def key(self) -> str:
        return run_key(self.job, self.data, self.seed)

    @property
    def result_key(self) -> str:
        """Of what its scores and pictures are: of this run, and of the very weights it ended with.

        A key alone is not enough: made again on another machine, a run may differ in its last bits.
        """
        return digest({"run": self.key, "weights": self.adaptation_sha256})

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json"))


def run_name(backbone: str, row: str, seed: int | None) -> str:
    """`<backbone>/<row>/seed<seed>`: a run's name, and where it lies below its profile's results; what is not trained has no seed."""
    return f"{backbone}/{row}" if seed is None else f"{backbone}/{row}/seed{seed}"


def run_key(job: str, data: str, seed: int) -> str:
    """Hash of everything that determines a run; a finished run with this key is never done again."""
    return digest({"job": job, "data": data, "seed": seed})


def read_record(path: Path) -> RunRecord:
    """Read and check a run's record; `UserError` names the file when it is missing or not a record."""
    try:
        return RunRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such record; the run is not there or not finished") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this record: {error.strerror}") from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise UserError(f"{path}: not a run record: {where}: {first['msg']}; {redo(path.parent)}") from None


def redo(run: Path) -> str:
    """What a user does to have a run done again: it is checked, and found wanting, when its job runs again."""
    variant, backbone = run.parent, run.parent.parent.parent
    scores = backbone.parent / "scores" / f"{backbone.name}.parquet"
    return f"delete {variant}/runs.*.json and, where it is there, {scores}, and run snakemake again"


def another_run(run: Path) -> str:
    """What is said of a run that lies where the profile asks for another one."""
    return f"{run / 'record.json'}: a run of another protocol, schedule, data or options than its profile asks for; {redo(run)}"
