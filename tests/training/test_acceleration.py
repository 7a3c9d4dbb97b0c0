"""A step in its faster form computes what the plain step computes."""

from __future__ import annotations

import copy
from typing import Any, NoReturn

import pytest
import torch
from torch import nn
from torch.nn import functional

from adaptsr.adaptation.reparametrization import freeze, merged_state, reparametrize_weight, trainable_parameters
from adaptsr.backbones.build import build
from adaptsr.backbones.sites import find_sites
from adaptsr.config import schema
from adaptsr.training.acceleration import accelerate
from baselines import lora

SWIN: dict[str, Any] = {"upscale": 4, "img_size": 16, "embed_dim": 24, "num_heads": [2], "window_size": 8}
BACKBONES = {
    "swinir": ("SwinIR", {**SWIN, "depths": [2], "mlp_ratio": 2, "upsampler": "pixelshuffledirect"}),
    "drct": ("DRCT", {**SWIN, "depths": [6], "gc": 8, "upsampler": "pixelshuffle"}),
    "edsr": ("edsr", {"num_feat": 48, "num_block": 2}),
    "safmn": ("SAFMN", {"dim": 36, "n_blocks": 1, "upscaling_factor": 4}),
}


def no_data(index: int) -> NoReturn:
    raise AssertionError(f"LoRA's plan needs no data, and asked for batch {index}")


def attached(backbone: str, **options: Any) -> nn.Module:
    """LoRA away from its start, in float64, where a rounding error is no excuse."""
    architecture, settings = BACKBONES[backbone]
    torch.manual_seed(0)
    model = build(schema.Backbone(architecture=architecture, options=settings), 4).double()
    freeze(model)
    sites = find_sites(model)
    chosen = {**lora.OPTIONS, "rank": 2, **options}
    lora.attach(model, lora.plan(model, sites, chosen, no_data, 1))
    for parameter in trainable_parameters(model).values():
        nn.init.normal_(parameter, std=0.05)
    return model


def faster(model: nn.Module) -> tuple[nn.Module, list[str]]:
    """An accelerated copy, and the names of the modules that got another forward."""
    accelerated = copy.deepcopy(model)
    accelerate(accelerated)
    return accelerated, [name for name, module in accelerated.named_modules() if "forward" in vars(module)]


def one_step(model: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The output and the gradients of every trainable parameter."""
    generator = torch.Generator().manual_seed(1)
    lr = torch.rand(2, 3, 16, 16, generator=generator, dtype=torch.float64)
    hr = torch.rand(2, 3, 64, 64, generator=generator, dtype=torch.float64)
    torch.manual_seed(2)  # SwinIR's DropPath
    model.train()
    restored = model(lr)
    functional.l1_loss(restored, hr).backward()
    gradients = {name: parameter.grad for name, parameter in trainable_parameters(model).items()}
    return restored.detach(), {name: gradient for name, gradient in gradients.items() if gradient is not None}


def assert_same_step(model: nn.Module, plain: nn.Module) -> None:
    """Output and every gradient are those of the plain model, up to float64's rounding."""
    restored, gradients = one_step(plain)
    found, gradients_found = one_step(model)
    torch.testing.assert_close(found, restored, rtol=1e-10, atol=1e-12)
    assert gradients_found.keys() == gradients.keys() == trainable_parameters(plain).keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_found[name], gradient, rtol=1e-9, atol=1e-13, msg=name)


@pytest.mark.parametrize("factorization", ["loralib", "kxk-1x1", "1x1-kxk"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_gradient_is_the_plain_one(backbone: str, factorization: str) -> None:
    plain = attached(backbone, factorization=factorization)
    accelerated, changed = faster(plain)
    assert_same_step(accelerated, plain)
    if factorization != "1x1-kxk" or backbone in ("swinir", "drct"):
        assert changed


@pytest.mark.parametrize("backbone", ["swinir", "drct"])
def test_attention_is_the_plain_one_to_1e_5_in_single_precision(backbone: str) -> None:
    plain = attached(backbone).float()
    accelerated, changed = faster(plain)
    assert any(name.endswith(".attn") for name in changed)
    lr = torch.rand(3, 3, 32, 24, generator=torch.Generator().manual_seed(1))  # not the size the masks were made for
    with torch.enable_grad():
        torch.testing.assert_close(accelerated(lr), plain(lr), rtol=1e-5, atol=1e-5)


def test_masks_of_another_size_are_folded_anew() -> None:
    """Also where as many windows lie differently: 6 x 2 and 3 x 4 windows have masks of one shape."""
    plain = attached("swinir")
    accelerated, _ = faster(plain)
    for height, width in ((16, 16), (48, 16), (24, 32), (16, 48), (16, 16)):
        lr = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        with torch.enable_grad():
            torch.testing.assert_close(accelerated.eval()(lr), plain.eval()(lr), rtol=1e-10, atol=1e-12)


def test_without_gradients_the_plain_forward_runs() -> None:
    """Validation and scoring see the very bits of the plain modules."""
    plain = attached("swinir").float().eval()
    accelerated, _ = faster(plain)
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(accelerated(lr), plain(lr))


def test_merging_does_not_notice() -> None:
    plain = attached("drct")
    accelerated, _ = faster(plain)
    keys = ["conv_first.weight", "layers.0.swin1.attn.qkv.weight"]
    for key, tensor in merged_state(plain, keys).items():
        assert torch.equal(merged_state(accelerated, keys)[key], tensor)


def test_no_full_weight_gradient_is_formed() -> None:
    """The backward of a low-rank layer multiplies less than that of a trained weight."""
    from torch.utils.flop_counter import FlopCounterMode

    def products(model: nn.Module) -> int:
        model(torch.rand(8, 64, 256, requires_grad=True)).sum().backward()
        with FlopCounterMode(display=False) as counter:
            model(torch.rand(8, 64, 256, requires_grad=True)).sum().backward()
        return counter.get_total_flops()

    layer = nn.Linear(256, 256)
    full = products(layer)
    low_rank = nn.Sequential(copy.deepcopy(layer))
    freeze(low_rank)
    plan = lora.plan(low_rank, find_sites(low_rank), {**lora.OPTIONS, "rank": 4}, no_data, 1)
    lora.attach(low_rank, plan)
    accelerate(low_rank)
    assert products(low_rank) < 0.72 * full


def test_what_has_no_faster_form_is_left_alone() -> None:
    """Other reparametrizations, two on one weight, ranks too high to pay, attention whose position bias trains."""

    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    foreign = nn.Sequential(nn.Linear(8, 8))
    reparametrize_weight(foreign[0], Doubled())
    assert faster(foreign)[1] == []
    twice = attached("edsr")
    for name, _ in twice.named_modules():
        if name.endswith("conv1"):
            reparametrize_weight(twice.get_submodule(name), Doubled())
    assert not any(name.endswith("conv1") for name in faster(twice)[1])
    assert faster(attached("edsr", rank=16))[1] == []
    trained = attached("swinir")
    for name, parameter in trained.named_parameters():
        if name.endswith("relative_position_bias_table"):
            parameter.requires_grad_(True)
    assert not any(name.endswith(".attn") for name in faster(trained)[1])


def test_under_autocast_the_products_are_in_bfloat16_and_the_gradients_are_not() -> None:
    plain = attached("swinir").float()
    accelerated, _ = faster(plain)
    lr = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    outputs = []
    for model in (plain, accelerated):
        torch.manual_seed(2)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            restored = model(lr)
        restored.float().abs().mean().backward()
        outputs.append(restored.float().detach())
        gradients = [parameter.grad for parameter in trainable_parameters(model).values()]
        assert all(gradient is not None and gradient.dtype == torch.float32 for gradient in gradients)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0.05, atol=0.05)
