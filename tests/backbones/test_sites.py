"""The sites of a backbone: found, sorted by kind, corrected, selected."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
import torch

from adaptsr.backbones.build import build
from adaptsr.backbones.sites import Correction, Site, find_sites, select
from adaptsr.config.schema import Backbone
from tests.backbones.helpers import tiny
from tests.factories import refusal


class TestSites:
    @pytest.mark.parametrize(
        ("name", "kinds", "upsampling", "grouped"),
        [
            ("edsr", {"conv": 9}, ["upsample.0", "upsample.2"], 0),
            ("safmn", {"conv": 16}, ["to_img.0"], 8),
            ("swinir", {"conv": 7, "attention": 4, "mlp": 4}, ["upsample.0", "upsample.2"], 0),
            ("drct", {"conv": 11, "attention": 10, "mlp": 10}, ["upsample.0", "upsample.2"], 0),
        ],
    )
    def test_kinds(self, name: str, kinds: Mapping[str, int], upsampling: list[str], grouped: int) -> None:
        """Every Linear and Conv2d in module order, its kind, and which feed a pixel shuffle or are grouped."""
        sites = find_sites(tiny(name))
        assert Counter(site.kind for site in sites) == kinds
        assert [site.name for site in sites if site.upsampling] == upsampling
        assert sum(site.grouped for site in sites) == grouped
        order = [name for name, _ in tiny(name).named_modules()]
        assert [site.name for site in sites] == sorted((site.name for site in sites), key=order.index)

    def test_default_selection(self) -> None:
        """What feeds a pixel shuffle and what is grouped is left out unless asked for."""
        sites = find_sites(tiny("safmn"))
        assert not any(site.upsampling or site.grouped for site in select(sites))
        assert len(select(sites)) == 16 - 1 - 8
        assert len(select(sites, upsampling=True)) == 16 - 8
        assert select(sites, upsampling=True, grouped=True) == sites
        assert select(sites, ["mlp"]) == []

    def test_unknown_kind(self) -> None:
        message = refusal(lambda: select(find_sites(tiny("edsr")), ["linear"]))
        assert message.startswith("kinds: unknown kind of site 'linear'; there are attention, conv, mlp")

    def test_properties(self) -> None:
        by_name = {site.name: site for site in find_sites(tiny("swinir"))}
        qkv = by_name["layers.0.residual_group.blocks.1.attn.qkv"]
        assert (qkv.role, qkv.stage, qkv.in_features, qkv.out_features) == ("qkv", "layers.0", 12, 36)
        assert qkv.is_linear
        assert qkv.weights == 432
        up = by_name["upsample.2"]
        assert (up.role, up.stage, up.in_features, up.out_features) == ("upsample", "upsample.2", 64, 256)
        assert by_name["conv_first"].stage == "conv_first"
        depthwise = Site("body.3.mfr", "conv", (9, 1, 3, 3), 9, True, False)
        assert (depthwise.in_features, depthwise.grouped, depthwise.weights) == (9, True, 81)

    @pytest.mark.parametrize(
        ("corrections", "expected"),
        [
            ({"conv_first": "skip"}, {"conv": 6, "attention": 4, "mlp": 4}),
            ({"*.mlp.*": "attention"}, {"conv": 7, "attention": 8}),
            ({"layers.*": "skip", "layers.0.conv": "conv"}, {"conv": 7}),
        ],
    )
    def test_corrections(self, corrections: Mapping[str, Correction], expected: Mapping[str, int]) -> None:
        """A profile's corrections by name or pattern, the later before the earlier."""
        assert Counter(site.kind for site in find_sites(tiny("swinir"), corrections)) == expected

    def test_correction_that_matches_nothing(self) -> None:
        message = refusal(lambda: find_sites(tiny("swinir"), {"conv_frist": "skip"}))
        assert re.search(r"kinds: no site 'conv_frist'.*conv_first", message)

    @pytest.mark.parametrize(
        ("architecture", "options", "attention", "mlp"),
        [
            ("HAT", {"upscale": 4, "window_size": 8}, {"qkv", "proj"}, {"fc1", "fc2"}),
            ("ATD", {"upscale": 4, "upsampler": "pixelshuffledirect"}, {"wqkv", "proj"}, {"fc1", "fc2"}),
            ("OmniSR", {}, {"to_qkv", "to_out"}, set()),
        ],
    )
    def test_other_architectures(
        self, architecture: str, options: dict[str, Any], attention: set[str], mlp: set[str]
    ) -> None:
        """Architectures that the paper does not use have their attention and MLP layers recognised too."""
        with torch.random.fork_rng():
            sites = find_sites(build(Backbone(architecture=architecture, options=options), 4))
        assert attention <= {site.role for site in sites if site.kind == "attention"}
        assert mlp <= {site.role for site in sites if site.kind == "mlp"}
        assert all(site.kind == "conv" for site in sites if not site.is_linear)
