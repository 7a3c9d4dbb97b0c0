"""The bridge to Hugging Face PEFT: methods by name, refusals in a line, counts as the library itself gives them."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from adaptsr.adaptation.reparametrization import merged_state, trainable_count, trainable_parameters
from adaptsr.backbones.sites import find_sites
from adaptsr.errors import UserError
from tests.baselines.helpers import DATA, attach, baseline, paper_backbone, planned, swin_like
from tests.factories import refusal

peft = pytest.importorskip("peft")
bridge = baseline("peft_library")


def settings(model: nn.Module, **options: Any) -> dict[str, Any]:
    return planned("peft_library", "lora", model, **options).settings


def with_depthwise() -> nn.Module:
    model = swin_like()
    model.depthwise = nn.Conv2d(8, 8, 3, groups=8)
    model.upsample = nn.Sequential(nn.Conv2d(8, 12, 3), nn.PixelShuffle(2))
    return model


@pytest.mark.parametrize(
    ("method", "config", "expected"),
    [
        ("LORA", {}, 742_640),
        ("LORA", {"use_rslora": True}, 742_640),
        ("LORA", {"use_dora": True}, 789_507),
        ("LORA", {"bias": "lora_only"}, 789_507),
        ("LORA", {"bias": "all"}, 803_339),
        ("SHIRA", {"r": 12}, 933_120),
    ],
)
def test_counts_of_swinir(method: str, config: Mapping[str, Any], expected: int) -> None:
    """SwinIR-M without its upsampling layers, counted with the library alone."""
    found = settings(paper_backbone("swinir"), method=method, config=dict(config))
    assert found["trainable"] == expected
    taken = 144 if method == "SHIRA" else 154
    assert len(found["sites"]) == taken
    assert len(found["left_out"]) == 154 - taken


def test_no_method_leaves_another_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """BOFT's search for a CUDA compiler left CXX=gcc behind, and what torch compiled later could not be loaded."""
    monkeypatch.setenv("CXX", "g++")
    before = dict(os.environ)
    assert settings(swin_like(), method="BOFT", config={})["sites"]
    assert dict(os.environ) == before


class TestLeftOut:
    """What a method cannot take is listed with the reason, and stays as it is."""

    @pytest.mark.parametrize(
        ("method", "config", "left_out", "reason"),
        [
            ("SHIRA", {"r": 2}, {"conv_first", "conv_last"}, "Conv2d"),
            # BOFT's blocks of 4 do not divide the 27 inputs of a 3x3 convolution on RGB.
            ("BOFT", {}, {"conv_first"}, "must be divisible"),
            # On padded convolutions OFT computes something else than the weight it merges into.
            ("OFT", {}, {"conv_first", "conv_last"}, "merged by OFT this kind of layer computes something else"),
        ],
    )
    def test_layers_that_a_method_cannot_take(
        self, method: str, config: Mapping[str, Any], left_out: set[str], reason: str
    ) -> None:
        found = settings(swin_like(), method=method, config=dict(config))
        assert set(found["left_out"]) == left_out
        assert all(reason in found["left_out"][name] for name in left_out)
        assert len(found["sites"]) == 10 - len(left_out)

    def test_grouped_convolutions(self) -> None:
        found = settings(with_depthwise())
        assert found["left_out"] == {"depthwise": "a grouped convolution, which stays frozen in every baseline"}
        assert "upsample.0" not in found["sites"]

    def test_upsampling_when_asked_for(self) -> None:
        assert "upsample.0" in settings(with_depthwise(), upsampling=True)["sites"]

    def test_sites_are_whole_names(self) -> None:
        """A name that ends like another's is not taken along with it."""
        model = nn.ModuleDict({"fc1": nn.Linear(8, 8), "inner": nn.ModuleDict({"fc1": nn.Linear(8, 8)})})
        plan = planned("peft_library", "lora", model)
        plan.settings["sites"] = ["fc1"]
        attach("peft_library", model, plan)
        assert {name.split(".lora")[0] for name in trainable_parameters(model)} == {"fc1"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "lorra"}, "method: peft has no 'LORRA'; there are ADALORA"),
        ({"method": "PREFIX_TUNING"}, "method: PREFIX_TUNING does not adapt a model's layers"),
        ({"method": "XLORA"}, "method: XLORA does not adapt a model's layers"),
        ({"method": "ADALORA", "config": {"total_step": 10}}, "ADALORA re-allocates during training"),
        ({"config": {"rank": 4}}, "peft_library: config: LORA has no option 'rank' here; it takes "),
        ({"config": {"target_modules": 4}}, "peft_library: config: LORA has no option 'target_modules' here; it takes"),
        ({"config": {"r": 0}}, "`r` should be a positive integer value"),
    ],
)
def test_refused_options(options: Mapping[str, Any], said: str) -> None:
    assert said in refusal(lambda: settings(swin_like(), **options))


def test_method_that_refuses_every_layer() -> None:
    line = refusal(lambda: settings(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)), method="VERA"))
    assert line.startswith("peft_library: VERA takes no layer of this backbone; 0: No layers types compatible")


def test_without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert "install it with `make extras`" in refusal(lambda: settings(swin_like()))


def test_every_name_of_the_registry_is_taken_or_refused() -> None:
    """Whatever PEFT offers, with its own defaults: a plan that attaches and merges, or one line."""
    model = swin_like()
    keys = list(model.state_dict())
    taken, refusals = set(), {}
    for kind in peft.PEFT_TYPE_TO_CONFIG_MAPPING:
        try:
            plan = planned("peft_library", "lora", model, method=kind.value)
        except UserError as refusal:
            refusals[kind.value] = str(refusal)
            continue
        attached = attach("peft_library", copy.deepcopy(model), plan)
        assert trainable_count(attached) == plan.settings["trainable"]
        merged = merged_state(bridge.merge(attached, plan), keys)
        assert [value.shape for value in merged.values()] == [value.shape for value in model.state_dict().values()]
        taken.add(kind.value)
    assert all(name in line and "\n" not in line for name, line in refusals.items())
    assert {"LORA", "LOHA", "LOKR", "OFT", "BOFT", "HRA", "VERA", "RANDLORA", "HIRA", "DELORA"} <= taken


def test_lora_merges_into_the_explicit_product() -> None:
    """What comes out of the bridge's merge is W + (alpha / r) B A, and nothing of PEFT is left in the model."""
    model = swin_like()
    plan = planned("peft_library", "lora", model, config={"r": 2, "lora_alpha": 3})
    attached = attach("peft_library", copy.deepcopy(model), plan)
    site = "layers.0.mlp.fc1"
    parameters = trainable_parameters(attached)
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.normal_(0, 0.1, generator=torch.Generator().manual_seed(parameter.numel()))
    a, b = (parameters[f"{site}.lora_{factor}.default.weight"].detach().clone() for factor in "AB")
    expected = attached(DATA.float())
    plain = bridge.merge(attached, plan)
    torch.testing.assert_close(
        plain.get_parameter(f"{site}.weight"), model.get_parameter(f"{site}.weight") + 1.5 * b @ a
    )
    torch.testing.assert_close(plain(DATA.float()), expected)
    assert list(plain.state_dict()) == list(model.state_dict())
    assert {type(module) for module in plain.modules()} == {type(module) for module in model.modules()}
    assert not hasattr(plain, "peft_config")


def test_sites_are_those_of_the_kinds() -> None:
    model = swin_like()
    found = settings(model, kinds=["attention"])
    assert found["sites"] == [site.name for site in find_sites(model) if site.kind == "attention"]
    assert found["left_out"] == {}
