"""What the commands import, imported once: processes are forked from the one that has done it (see processes.py)."""

from __future__ import annotations

import pyarrow.parquet
import pyiqa
import spandrel.architectures.SAFMN
import spandrel.architectures.SwinIR
import torch

import adaptsr.adaptation.counting
import adaptsr.cli
import adaptsr.reporting.significance
import adaptsr.reporting.tables
import adaptsr.runs.loading
import adaptsr.scoring.score_runs
import adaptsr.training.train_runs

__all__ = ["adaptsr", "pyarrow", "pyiqa", "spandrel"]

torch.set_num_threads(1)
