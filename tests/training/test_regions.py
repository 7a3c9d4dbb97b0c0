"""A step whose blocks run compiled computes what the plain step computes."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from adaptsr.adaptation.reparametrization import freeze, merged_state, trainable_parameters
from adaptsr.backbones.build import build
from adaptsr.backbones.sites import find_sites
from adaptsr.config import schema
from adaptsr.errors import UserError
from adaptsr.training.merges import Merges
from adaptsr.training.regions import StochasticDepth, compile_regions, repeated_blocks
from baselines import lora
from tests.training.test_acceleration import assert_same_step, no_data

EAGER = "aot_eager"
"""A backend that traces as the real one does, and then runs plain operators: in float64 nothing else excuses a difference."""
SWIN: dict[str, Any] = {"upscale": 4, "img_size": 16, "embed_dim": 24, "window_size": 8, "drop_path_rate": 0.0}
BACKBONES: dict[str, tuple[str, dict[str, Any], str, int]] = {
    "swinir": (
        "SwinIR",
        {**SWIN, "depths": [4, 2], "num_heads": [2, 2], "mlp_ratio": 2, "upsampler": "pixelshuffledirect"},
        "SwinTransformerBlock",
        2,
    ),
    "drct": ("DRCT", {**SWIN, "depths": [6, 6], "num_heads": [2, 2], "gc": 8, "upsampler": "pixelshuffle"}, "RDG", 1),
    "edsr": ("edsr", {"num_feat": 24, "num_block": 3}, "ResidualBlockNoBN", 1),
    "safmn": ("SAFMN", {"dim": 16, "n_blocks": 2, "upscaling_factor": 4}, "AttBlock", 1),
}
"""Architecture, options, the class of its regions and how many kinds they are of: SwinIR's blocks are shifted or not."""


def built(backbone: str) -> nn.Module:
    architecture, options, *_ = BACKBONES[backbone]
    torch.manual_seed(0)
    return build(schema.Backbone(architecture=architecture, options=options), 4).double()


def with_lora(model: nn.Module, rank: int = 2) -> nn.Module:
    freeze(model)
    lora.attach(model, lora.plan(model, find_sites(model), {**lora.OPTIONS, "rank": rank}, no_data, 1))
    return away_from_start(model)


def away_from_start(model: nn.Module) -> nn.Module:
    for parameter in trainable_parameters(model).values():
        nn.init.normal_(parameter, std=0.05)
    return model


@pytest.mark.parametrize("full", [False, True], ids=["LoRA", "full fine-tuning"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_gradient_is_the_plain_one(backbone: str, full: bool) -> None:
    plain = built(backbone).requires_grad_(True) if full else with_lora(built(backbone))
    compiled = copy.deepcopy(plain)
    assert compile_regions(compiled, EAGER) == BACKBONES[backbone][3]
    assert {type(block).__name__ for block in repeated_blocks(plain)} == {BACKBONES[backbone][2]}
    assert_same_step(compiled, plain)


def compiles() -> bool:
    """Whether torch's compiler works here: it needs a C++ compiler that links the standard library."""
    try:
        torch.compile(lambda x: (x + 1).sin().sum())(torch.ones(8))
    except Exception:
        return False
    return True


@pytest.mark.slow
def test_the_real_backend_agrees_in_single_precision() -> None:
    if not compiles():
        pytest.skip("torch.compile does not work on this machine")
    plain = with_lora(built("swinir")).float()
    compiled = copy.deepcopy(plain)
    compile_regions(compiled)
    lr = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(compiled(lr), plain(lr), rtol=1e-4, atol=1e-5)


def test_blocks_of_other_ranks_are_of_other_kinds() -> None:
    """Compiled code sees the whole weight: only what is frozen differs, and with biases nothing is."""
    model = built("edsr")
    freeze(model)
    sites = find_sites(model)
    plan = lora.plan(model, sites, {**lora.OPTIONS, "rank": 2}, no_data, 1)
    lora.attach(model, plan)
    blocks = list(repeated_blocks(model))
    blocks[1].conv1.parametrizations.weight[0].a.requires_grad_(False)
    blocks[1].conv1.parametrizations.weight[0].b.requires_grad_(False)
    assert compile_regions(model, EAGER) == 2


class Counting(nn.Module):
    """A block that Dynamo cannot trace: what it does hangs on a value."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum().item() > 0 else x  # type: ignore[no-any-return]


def test_a_block_that_cannot_be_compiled_is_one_line() -> None:
    model = nn.Sequential(Counting(), Counting())
    compile_regions(model, EAGER)
    with pytest.raises(UserError, match=r"^training\.compile: Counting cannot be compiled \([^\n]+\); set `none`$"):
        model(torch.rand(2, 4))


class Rounded(nn.Module):
    """Asks for the value of a tensor, which no batched operator can tell."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight if float(weight.detach().sum()) > 0 else -weight


def test_weights_that_cannot_be_formed_together_are_formed_one_by_one() -> None:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))
    for layer, attached in zip(model, (Rounded(), Rounded(), nn.Tanh(), nn.Tanh()), strict=True):
        parametrize.register_parametrization(layer, "weight", attached)
    merges = Merges(model)
    seen: list[torch.Tensor] = []
    model[3].register_forward_pre_hook(lambda *_: seen.extend(merges.tensor(layer, "weight") for layer in model))
    model(torch.rand(2, 4))
    assert len(merges._groups) == 1
    for layer, weight in zip(model, seen, strict=True):
        torch.testing.assert_close(weight, layer.weight)
    assert merges.tensor(model[2], "weight") is not seen[2], "nothing is kept after a forward"


def test_without_gradients_the_plain_forward_runs() -> None:
    plain = with_lora(built("swinir")).float().eval()
    compiled = copy.deepcopy(plain)
    compile_regions(compiled, EAGER)
    lr = torch.rand(1, 3, 24, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(compiled(lr), plain(lr))
    keys = ["conv_first.weight", "layers.0.residual_group.blocks.0.attn.qkv.weight"]
    for key, tensor in merged_state(plain, keys).items():
        assert torch.equal(merged_state(compiled, keys)[key], tensor)


def test_stochastic_depth_drops_samples_at_its_rate_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    depth, x = StochasticDepth(0.25), torch.ones(4000, 2, 3)
    y = depth(x)
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (y == y[:, :1, :1]).all(), "a sample is dropped as a whole"
    assert float(y.mean()) == pytest.approx(1, abs=0.03)


def test_rates_of_stochastic_depth_make_no_kinds() -> None:
    architecture, options, *_ = BACKBONES["swinir"]
    torch.manual_seed(0)
    model = build(schema.Backbone(architecture=architecture, options={**options, "drop_path_rate": 0.3}), 4)
    assert compile_regions(model.requires_grad_(True), EAGER) == 3, "the first block drops nothing"
