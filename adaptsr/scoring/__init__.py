"""Scoring restored images with pyiqa under pinned conventions; one row per image and metric.

Importing this package costs neither torch nor pyiqa, so that a workflow can check a profile's metrics while parsing.
"""

from __future__ import annotations

from adaptsr.scoring.conventions import Convention, conventions
from adaptsr.scoring.folders import score_folders, standard_scoring
from adaptsr.scoring.psnr import psnr_y
from adaptsr.scoring.scorer import Scorer, ScoreRow
from adaptsr.scoring.weights import WeightFile, fetch_weights, weight_files

__all__ = [
    "Convention",
    "ScoreRow",
    "Scorer",
    "WeightFile",
    "conventions",
    "fetch_weights",
    "psnr_y",
    "score_folders",
    "standard_scoring",
    "weight_files",
]
