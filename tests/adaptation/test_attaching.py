"""Budgets that name a variant: resolved once, and the same number wherever a variant is planned."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from adaptsr.adaptation.attaching import attach
from adaptsr.adaptation.baseline_files import FOLDER, discover, resolve_variant
from adaptsr.adaptation.contract.backbones import SCALE, calibration, small_backbone
from adaptsr.adaptation.contract.subjects import Subject, chosen_variants
from adaptsr.adaptation.counting import count
from adaptsr.adaptation.reparametrization import trainable_count
from adaptsr.backbones.sites import find_sites
from adaptsr.config.mistakes import validate
from adaptsr.data.store import PairSet
from adaptsr.runs.keys import Inputs
from adaptsr.runs.matrix import Matrix
from adaptsr.training.context import TrainingContext
from papers.adaptsr.counting import Counts
from tests.factories import profile_content, refusal

EXACT = '''"""A method that trains exactly its budget (nobody, nowhere)."""

import torch
from torch import nn

from adaptsr.adaptation.reparametrization import Plan

OPTIONS = {"budget": "lora/r4"}
VARIANTS = {"named": {}, "number": {"budget": 7}, "ranks": {"budget": {"ranks": 3}}}
ROWS = ["named"]
PROTOCOL = 1


def plan(backbone, sites, options, calibration, seed):
    return Plan({"budget": options["budget"]})


def attach(model, plan):
    model.spent = nn.Parameter(torch.zeros(plan.settings["budget"]))
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lora.py").symlink_to(FOLDER / "lora.py")
    (tmp_path / "exact.py").write_text(EXACT)
    return tmp_path


def matrix_of(folder: Path, baselines: Mapping[str, Any]) -> Matrix:
    content = profile_content("paper")
    content["baselines"] = baselines
    content["backbones"] = {"safmn": content["backbones"]["safmn"]}
    content["report"]["comparisons"] = []
    return Matrix.of(validate(content, Path("paper.yaml")), "paper.yaml", [folder])


def in_training(matrix: Matrix) -> int:
    backbone = copy.deepcopy(small_backbone("safmn"))
    context = TrainingContext(
        matrix=matrix,
        name="safmn",
        backbone=backbone,
        sites=find_sites(backbone),
        sources=[],
        validation=PairSet("empty", SCALE, [], [], [], []),
        device=torch.device("cpu"),
        inputs=Inputs(weights=None, train=(), validation=""),
    )
    variant = matrix.variant("exact/named")
    return trainable_count(attach(context.fresh_backbone(), variant, context.plan(variant, 1)))


def in_counting(matrix: Matrix) -> int:
    model = small_backbone("safmn")
    return count(model, find_sites(model), matrix.variant("exact/named"), "safmn").trainable


def in_the_audit(matrix: Matrix) -> int:
    return Counts(matrix, {"safmn": small_backbone("safmn")}).trainable("safmn", "exact/named")


def in_the_contract(matrix: Matrix) -> int:
    variant = chosen_variants(matrix.baselines["exact"])[0]
    return trainable_count(Subject(variant, "safmn", small_backbone("safmn"), calibration).attached)


@pytest.mark.parametrize("user", [in_training, in_counting, in_the_audit, in_the_contract])
def test_a_budget_is_the_same_number_for_everybody(folder: Path, user: Callable[[Matrix], int]) -> None:
    matrix = matrix_of(folder, {"lora": {}, "exact": {}})
    lora = Subject(matrix.variant("lora/r4"), "safmn", small_backbone("safmn"), calibration)
    assert user(matrix) == trainable_count(lora.attached) > 0


def test_a_budget_is_what_the_profile_defines(folder: Path) -> None:
    """A profile that defines lora/r4 anew moves the budget with it, and makes the runs of that budget stale."""
    as_in_file = matrix_of(folder, {"lora": {}, "exact": {}})
    anew = matrix_of(folder, {"lora": {"variants": {"r4": {"rank": 2}}}, "exact": {}})
    assert anew.variants["exact/named"].budget == anew.variants["lora/r4"]
    assert in_counting(anew) < in_counting(as_in_file)
    keys = [matrix.variant_key("safmn", "exact/named") for matrix in (as_in_file, anew)]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("chosen", ["number", "ranks"])
def test_a_budget_in_numbers_names_no_variant(folder: Path, chosen: str) -> None:
    assert resolve_variant(discover([folder]), {}, f"exact/{chosen}", "profile").budget is None


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        ("loar/r4", r"no baseline 'loar' \(did you mean 'lora'\?\); there are exact, lora"),
        ("lora/r5", r"baselines\.lora: no variant 'r5'"),
        ("886k", r"exact/mine: budget: expected `<baseline>/<variant>`, a number of .* found '886k'"),
        ("exact/mine", r"exact/mine: budget: expected `<baseline>/<variant>`, a number of .* found 'exact/mine'"),
        ("exact/other", r"exact/other: budget: exact/mine -> exact/other -> exact/mine is a circle"),
    ],
)
def test_a_mistaken_budget_is_one_line(folder: Path, budget: str, message: str) -> None:
    baselines = {"exact": {"variants": {"mine": {"budget": budget}, "other": {"budget": "exact/mine"}}}}
    assert re.match(rf"paper\.yaml: {message}", refusal(lambda: matrix_of(folder, baselines)))
