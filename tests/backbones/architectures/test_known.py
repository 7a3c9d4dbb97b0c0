"""What families declare: small models that build, attention in its fast form, their own parts and no others."""

from __future__ import annotations

from typing import Any

import pytest
import spandrel
import torch
from torch import nn

from adaptsr.backbones.architectures.family import Family
from adaptsr.backbones.architectures.known import FAMILIES, family_of, fast_forward, for_spandrel, gelu_mlp
from adaptsr.backbones.architectures.names import architectures
from adaptsr.backbones.build import build
from adaptsr.backbones.gate import facts
from adaptsr.config.schema import Backbone
from tests.backbones.helpers import fresh


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.architecture)
def test_small_models_are_of_any_scale(family: Family) -> None:
    assert family.architecture in architectures()
    assert family_of(family.architecture) is family
    for scale in (2, 4):
        model = build(Backbone(architecture=family.architecture, options=family.small(scale, 8)), scale)
        assert facts(model).scale == scale
        assert sum(parameter.numel() for parameter in model.parameters()) < 500_000


def test_no_family_for_what_spandrel_alone_knows() -> None:
    assert family_of("HAT") is None


@pytest.mark.parametrize("name", ["swinir", "drct"])
def test_attention_in_its_fast_form(name: str) -> None:
    """The same result with gradients, with a mask and without; where the position bias trains, no such form."""
    model = fresh(name).double()
    attentions = [module for module in model.modules() if type(module).__name__ == "WindowAttention"]
    assert attentions
    attention = attentions[0]
    x = torch.rand(8, 16, 12, dtype=torch.float64)
    mask = torch.where(torch.rand(4, 16, 16) > 0.5, 0.0, -100.0).double()
    assert fast_forward(attention) is None
    for parameter in attention.parameters():
        parameter.requires_grad_(False)
    fast = fast_forward(attention)
    assert fast is not None
    for given in (None, mask, mask, None):
        torch.testing.assert_close(fast(x, given), attention(x, given), rtol=1e-10, atol=1e-12)
    with torch.no_grad():
        assert torch.equal(fast(x, mask), attention(x, mask))
    attention.attn_drop.p = 0.1
    assert fast_forward(attention) is None


@pytest.mark.parametrize("name", ["swinir", "drct"])
def test_gelu_mlps(name: str) -> None:
    model = fresh(name).double()
    mlps = [module for module in model.modules() if type(module).__name__ == "Mlp"]
    assert mlps
    layers = gelu_mlp(mlps[0])
    assert layers is not None
    x = torch.rand(5, mlps[0].fc1.in_features, dtype=torch.float64)
    assert torch.equal(layers[1](nn.functional.gelu(layers[0](x))), mlps[0](x))
    mlps[0].drop.p = 0.1
    assert gelu_mlp(mlps[0]) is None


@pytest.mark.parametrize("name", ["edsr", "safmn"])
def test_other_modules_have_no_special_form(name: str) -> None:
    assert not any(gelu_mlp(module) or fast_forward(module) for module in fresh(name).modules())


@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, 4), ({"res_scale": 0.1}, 2), ({"img_range": 1.0, "rgb_mean": (0.0, 0.0, 0.0)}, 3), ({"num_block": 1}, 4)],
    ids=str,
)
def test_edsr_has_a_form_that_spandrel_loads(options: dict[str, Any], scale: int) -> None:
    model = build(Backbone(architecture="edsr", options={"num_feat": 6, "num_block": 3, **options}), scale)
    form = for_spandrel(model)
    assert form
    loaded = spandrel.ModelLoader().load_from_state_dict(dict(form))
    assert loaded.architecture.id == "RCAN"
    assert loaded.scale == scale
    image = torch.rand(1, 3, 21, 34)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(image.clone()), model(image), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("name", ["safmn", "swinir", "drct"])
def test_what_spandrel_loads_needs_no_other_form(name: str) -> None:
    assert for_spandrel(fresh(name)) is None
