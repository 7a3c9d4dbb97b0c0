"""The record that a run leaves: its schema, and reading it forward from older code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pydantic
from pydantic import Field

from adaptsr.config.schema import Name
from adaptsr.errors import UserError
from adaptsr.files import digest, validated, write_json
from adaptsr.runs.keys import Inputs, run_key
from adaptsr.runs.provenance import Provenance

SCHEMA = 2
"""Raised when a field changes its meaning or goes; a new field needs a default and no new number."""


SHARED_GPU = "processes shared the GPU"
"""Part of the note of a run whose time on the GPU is not its own."""


class RecordTooNew(UserError):
    """A record that newer code has written; this code must not take the run for a missing one."""


class LossPoint(pydantic.BaseModel):
    """Mean training loss over the iterations since the point before; null where it is not a finite number."""

    iteration: int
    loss: float | None


class ValidationPoint(pydantic.BaseModel):
    """PSNR-Y in dB (BT.601, no crop, 8 bit) on the validation split, with seconds of training so far."""

    iteration: int
    psnr_y: float
    seconds: float


def best_point(points: Sequence[ValidationPoint]) -> ValidationPoint:
    """Return the validation with the highest PSNR-Y, the first of equals."""
    return max(points, key=lambda point: point.psnr_y)


class RunRecord(pydantic.BaseModel):
    """`record.json` of one run (backbone x variant x seed)."""

    model_config = pydantic.ConfigDict(extra="forbid", populate_by_name=True)

    schema_number: int = Field(SCHEMA, alias="schema")
    variant_key: str
    """What the profile and the baseline file asked for (`keys.variant_key`)."""
    inputs: Inputs | None
    """The images it was trained on and the weights it started from; None in a record of schema 1, which hashed them."""
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
    plan_notes: list[str] = []
    """What the plan says about this row on this backbone: footnotes of tables."""
    left_out: dict[str, str] = {}
    """Losses that the objective left out because their network weights were unavailable, each with the reason."""
    total_parameters: int
    trainable_parameters: int
    iterations: int
    resumed_from: int
    wall_seconds: float
    processor_seconds: float | None = None
    """Processor time of the optimizer steps, over all threads; None in a record of version 0.2.0 or before."""
    step_memory_bytes: int | None = None
    """What one step holds besides the model: kept for the backward pass, gradients, the optimizer's state."""
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
        """The run's key; that of a record of schema 1 is no key of this code's, and no run's of a profile."""
        if self.inputs is None:
            return digest({"schema": 1, "variant": self.variant_key, "seed": self.seed})
        return run_key(self.variant_key, self.inputs, self.seed)

    @property
    def kept(self) -> ValidationPoint | None:
        """The validation of the weights that the run ended with; None in a record without validations."""
        if not self.validation:
            return None
        return best_point(self.validation) if self.keeps_best else self.validation[-1]

    @property
    def keeps_best(self) -> bool:
        """Whether the run ended with the weights that did best on the validation split, not with its last ones."""
        return bool(self.config.get("training", {}).get("keep") == "best")

    @property
    def is_older(self) -> bool:
        """Whether code wrote it whose keys cannot be compared with those of this code."""
        return self.inputs is None

    @property
    def result_key(self) -> str:
        """What its scores and pictures belong to: this run, and the very weights it ended with.

        A key alone is not enough: trained again on another machine, a run may differ in its last bits.
        """
        return digest({"run": self.key, "weights": self.adaptation_sha256})

    def write(self, path: Path) -> None:
        write_json(path, self.model_dump(mode="json", by_alias=True))


def read_record(path: Path) -> RunRecord:
    """Read and check a run's record, of this or an older schema.

    Raises `UserError` naming the file if it is missing or not a record, and `RecordTooNew` if newer code wrote it.
    """
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such record; the run is missing or not finished") from None
    except OSError as error:
        raise UserError(f"{path}: cannot read this record: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(
            f"{path}: not a run record: {' '.join(str(error).split())[:200]}; {redo(path.parent)}"
        ) from None
    return validated(RunRecord, _forward(content, path), f"{path}: not a run record", redo(path.parent))


OLDER = "of older code, whose keys cannot be compared with those of this code"


def another_run(path: Path, record: RunRecord) -> str:
    """Say that the run of this record is not the one that its profile asks for."""
    what = OLDER if record.is_older else "of another protocol, schedule, data, weights or options"
    return f"{path}: a run {what}; {redo(path.parent)}: it is then set aside, and trained anew"


def redo(folder: Path) -> str:
    """Tell the user how to have a run checked, and trained again where it is found wanting."""
    return f"delete {folder.parent}/runs.*.json and run snakemake again"


def _forward(content: Any, path: Path) -> Any:
    """Bring the content of an older record to the present schema, missing fields left to their defaults."""
    if not isinstance(content, dict):
        return content
    number = content.get("schema", 1)
    if isinstance(number, int) and number > SCHEMA:
        raise RecordTooNew(
            f"{path}: a record of schema {number}, this code reads up to {SCHEMA}; update adaptsr, or use another folder"
        )
    if number == 1:
        content = {**content, "schema": 1, "inputs": None}
        content["variant_key"] = digest([content.pop("job", None), content.pop("data", None)])
    return content
