"""Trainable parameters of every variant on the paper's backbones, to the digit.

The expected numbers were computed independently of this package, by building the four architectures and injecting the
methods' own libraries, and stand beside what the paper prints. Counting needs no trained weights and no forward pass.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from adaptsr.adaptation.attaching import attach, plan_variant
from adaptsr.adaptation.baseline_files import Variant, select_variants
from adaptsr.adaptation.lora import cost_per_rank
from adaptsr.adaptation.reparametrization import Plan, parameter_count, trainable_count
from adaptsr.backbones.sites import Site, find_sites, select
from tests.baselines.helpers import FILES, paper_backbone, variant


def backbone(name: str) -> tuple[nn.Module, list[Site]]:
    model = paper_backbone(name)
    return model, find_sites(model)


def no_calibration(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    raise AssertionError("the count of this variant does not depend on data")


def attached(name: str, chosen: Variant) -> tuple[nn.Module, Plan]:
    model, sites = backbone(name)
    plan = plan_variant(chosen, lambda: copy.deepcopy(model), sites, no_calibration, 1)
    return attach(copy.deepcopy(model), chosen, plan), plan


def count(name: str, row: str, **changes: Any) -> int:
    return trainable_count(attached(name, variant(*row.split("/"), **changes))[0])


@pytest.mark.parametrize(
    ("name", "total", "linear", "conv"),
    [
        ("edsr", 1_517_571, 0, 37),
        ("safmn", 239_520, 0, 26 + 32),
        ("swinir", 11_900_199, 144, 12),
        ("drct", 14_139_579, 120, 36),
    ],
)
def test_backbones_have_the_published_size(name: str, total: int, linear: int, conv: int) -> None:
    """The four architectures are those of Table 1 (1.5M, 240k, 12M, 14M): total parameters and layers."""
    model, sites = backbone(name)
    assert parameter_count(model) == total
    assert Counter(site.is_linear for site in sites) == Counter({True: linear, False: conv})


def test_swinir_is_made_of_these_parts() -> None:
    """Weights and biases of SwinIR-M by kind of site, and the paper's cost per unit of rank."""
    _, sites = backbone("swinir")
    weights: Counter[str] = Counter()
    biases: Counter[str] = Counter()
    ranks: Counter[str] = Counter()
    for site in sites:
        kind = "upsampling" if site.upsampling else site.kind
        weights[kind] += site.weights
        biases[kind] += site.out_features * site.bias
        ranks[kind] += cost_per_rank(site, "loralib")
    assert weights == {"attention": 4_665_600, "mlp": 4_665_600, "conv": 2_151_468, "upsampling": 294_912}
    assert biases == {"attention": 25_920, "mlp": 19_440, "conv": 1_507, "upsampling": 512}
    assert ranks["attention"] + ranks["mlp"] == 77_760
    assert ranks["conv"] == 27_126
    assert ranks["upsampling"] == 2 * 2_880


SWINIR = {
    # Table 2: 152k, 466k, 886k, 1.7M, 6.8M. The slope is 104,886 a rank, the intercept the 46,867 adapted biases.
    "lora/r1": 151_753,
    "lora/r2": 2 * 104_886 + 46_867,
    "lora/r4": 466_411,
    "lora/r8": 885_955,
    "lora/r8-plus": 885_955,
    "lora/r8-paper": 885_955,
    "lora/r16": 1_725_043,
    "lora/r64": 6_759_571,
    # Table 4: LoRA 868k, 1.2M, 1.2M; fine-tuning 2.2M, 4.7M, 4.7M with or without biases.
    "lora/table4-conv": 868_032,
    "lora/table4-mlp": 1_244_160,
    "lora/table4-attention": 1_244_160,
    "full_finetuning/all": 11_900_199,
    "full_finetuning/conv": 2_152_975,
    "full_finetuning/mlp": 4_685_040,
    "full_finetuning/attention": 4_691_520,
    "full_finetuning/conv-nobias": 2_151_468,
    "full_finetuning/mlp-nobias": 4_665_600,
    "full_finetuning/attention-nobias": 4_665_600,
    # Other readings of the LoRA rows, none of which gives Table 2's column.
    "lora/r8-1x1-kxk": 789_507,
    "lora/r8-kxk-1x1": 789_507,
    "lora/r8-nobias": 839_088,
    "lora/r8-upsampling": 932_547,
    "lora/r8-separate-qkv": 885_955 + 8 * 36 * 360,
    "lora/r8-constant": 885_955,
    "lora/r8-rank-stabilised": 885_955,
    # Table 3: ARC 125k, 236k, 794k, 850k, 906k, 1.13M = 2232 N + 12,960.
    "arc/svd50": 124_560,
    "arc/svd50-zero": 124_560,
    "arc/svd100": 236_160,
    "arc/svd350": 794_160,
    "arc/svd375": 849_960,
    "arc/svd400": 905_760,
    "arc/svd500": 1_128_960,
    # Table 3: DiffFit 13k is gamma alone; as published it has biases and norms.
    "difffit/gamma": 12_960,
    "difffit/published": 86_979,
    # Table 3: SHiRA 930k, RaSA 7100k.
    "shira/paper": 933_120,
    "shira/struct": 933_120,
    # As many entries as LoRA r = 8 has parameters, but for the layers on RGB, which have fewer weights than that.
    "shira/rank8": 839_088 - (13_176 - 4_860) - (4_824 - 1_728),
    "rasa/paper": 7_099_344,
    "rasa/budget": 841_290,
    "rasa/budget-shape": 845_646,
}


@pytest.mark.parametrize(("row", "expected"), SWINIR.items())
def test_swinir(row: str, expected: int) -> None:
    """SwinIR-M x4, the backbone of the paper's parameter columns."""
    assert count("swinir", row) == expected


def test_every_variant_that_needs_no_data_is_counted() -> None:
    """No variant of the files is left out of the table above but those whose count data decides."""
    by_data = {"rank_aware", "peft_library", "colora"}
    beside_peft = {"dora", "pissa"}  # their own tests compare counts with PEFT's
    known = {
        f"{file.name}/{name}"
        for file in FILES.values()
        if file.name not in by_data | beside_peft
        for name, options in file.variants.items()
        if options.get("mask") not in ("wm", "grad", "snip")
    }
    assert known - set(SWINIR) == set()


@pytest.mark.parametrize(
    ("row", "changes", "expected"),
    [
        ("lora/r8", {"factorization": "1x1-kxk", "upsampling": True}, 827_907),
        ("lora/r8", {"factorization": "1x1-kxk", "qkv": "separate"}, 893_187),
        ("lora/r8", {"kinds": ["attention", "mlp"]}, 667_440),
        # Attention alone at r = 24 with separate q, k and v costs what r = 32 with a fused qkv does.
        ("lora/table4-attention", {"rank": 24, "qkv": "separate"}, 1_244_160),
        ("shira/paper", {"rank": 12}, 933_120),
        ("rasa/paper", {"shared": 1, "grouping": "shape"}, 7_098_036),
        ("rasa/paper", {"shared": 4, "grouping": "shape"}, 7_113_552),
        ("rasa/paper", {"shared": 1, "grouping": "stage"}, 7_093_674),
        ("rasa/paper", {"shared": 4, "grouping": "stage"}, 7_096_104),
        # U of width 180 for attention and MLP of 6 stages, lambda at 72 sites, and b of 180 at each: 2,232 a column.
        ("arc/svd50", {"size": 1}, 2_232 + 12_960),
        ("arc/svd50", {"size": 181}, 2_232 * 181 + 12_960),
    ],
)
def test_swinir_rival_readings(row: str, changes: Mapping[str, Any], expected: int) -> None:
    """Readings of the paper that were tried against its columns, as options of the same files."""
    assert count("swinir", row, **changes) == expected


OTHERS = {
    "edsr": (35, 37, (313_776, 315_955), (174_320, 176_499), (174_320, 176_499), (359_856, 362_547)),
    "safmn": (25, 26, (76_536, 77_724), (57_912, 59_100), (37_368, 38_556), (82_584, 83_820)),
    "swinir": (154, 156, (839_088, 885_955), (742_640, 789_507), (742_640, 789_507), (885_168, 932_547)),
    "drct": (154, 156, (781_488, 831_499), (754_160, 804_171), (754_160, 804_171), (827_568, 878_091)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_lora_r8_on_every_backbone(name: str) -> None:
    """LoRA r = 8 on dense layers: the three factorizations, and with the layers that feed the pixel shuffle."""
    dense, with_upsampling, *counts = OTHERS[name]
    _, sites = backbone(name)
    assert len(select(sites)) == dense
    assert len(select(sites, upsampling=True)) == with_upsampling
    forms: list[dict[str, Any]] = [
        {"factorization": "loralib"},
        {"factorization": "1x1-kxk"},
        {"factorization": "kxk-1x1"},
        {"factorization": "loralib", "upsampling": True},
    ]
    for form, (without, with_biases) in zip(forms, counts, strict=True):
        assert count(name, "lora/r8-nobias", **form) == without, form
        assert count(name, "lora/r8", **form) == with_biases, form


def test_depthwise_convolutions_stay_frozen() -> None:
    """SAFMN's 32 depthwise layers are no part of any count but full fine-tuning's, and what they hold is known."""
    _, sites = backbone("safmn")
    grouped = [site for site in sites if site.grouped]
    assert len(grouped) == 32
    assert sum(site.weights for site in grouped) == 2_592
    assert sum(site.out_features for site in grouped) == 288
    adapted, _ = attached("safmn", variant("lora", "r8"))
    for site in grouped:
        assert not any(parameter.requires_grad for parameter in adapted.get_submodule(site.name).parameters())


@pytest.mark.parametrize("rule", ["greedy", "proportional", "rank_linear"])
def test_rank_aware_spends_the_budget_of_uniform_lora(rule: str) -> None:
    """Rank-aware LoRA trains at most what lora/r8 trains, and at least 99% of it."""
    chosen = variant("rank_aware", "random", budget=885_955, allocation=rule)
    adapted, plan = attached("swinir", chosen)
    trained = trainable_count(adapted)
    assert plan.settings["spent"] == trained
    assert 0.99 * 885_955 <= trained <= 885_955
    assert set(plan.settings["ranks"].values()) <= set(range(1, 17))


def test_budget_in_ranks() -> None:
    """`ranks: 1232` is Algorithm 1's literal constraint: the sum of ranks of 154 sites at a mean of 8."""
    adapted, plan = attached("swinir", variant("rank_aware", "random", budget={"ranks": 1_232}))
    assert plan.settings["budget_unit"] == "ranks"
    assert sum(plan.settings["ranks"].values()) == plan.settings["spent"] == 1_232
    assert 589_806 + 46_867 <= trainable_count(adapted) <= 1_110_096 + 46_867


def test_default_rows_are_the_paper_s() -> None:
    """What a profile runs when it does not choose: the rows of Tables 2 and 3."""
    rows = [one.row for name in FILES for one in select_variants(FILES, {}, name, "test")]
    for row in ("lora/r1", "lora/r4", "lora/r8", "lora/r16", "lora/r64", "full_finetuning/all", "rank_aware/gradient"):
        assert row in rows
    assert {row for row in rows if row.startswith("arc/")} == {f"arc/svd{n}" for n in (50, 100, 350, 375, 400, 500)}
