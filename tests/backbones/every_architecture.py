"""Every architecture of spandrel, small, and the table of what works: `python -m tests.backbones.every_architecture`."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import spandrel
import torch
from torch import nn

from adaptsr.backbones.architectures.from_spandrel import meshgrid_silenced
from adaptsr.backbones.build import build_from_file
from adaptsr.backbones.gate import facts
from adaptsr.backbones.sites import dead_sites, find_sites
from adaptsr.errors import UserError
from adaptsr.runs.matrix import Matrix
from adaptsr.training.acceptance import accept
from tests.factories import REPOSITORY, matrix_of, pairs_profile

PAGE = REPOSITORY / "docs/architectures.md"
ROWS = ("full_finetuning/all", "rank_aware/gradient", "arc/svd50", "difffit/published")
ALL = (1, 2, 3, 4)
LR_SIDE = 16
"""Side in pixels of the LR crops on which rows are tried; enlarged where the architecture needs it."""

Options = dict[str, Any]


class Small(NamedTuple):
    """A small model: the options of a scale, its scales, and its class where it is not the architecture's name."""

    options: Callable[[int], Options]
    scales: tuple[int, ...] = ALL
    of_scale: Callable[[int], str] | None = None
    folder: str = ""


def swin(scale: int, upsampler: str = "pixelshuffledirect", **more: Any) -> Options:
    common = {"img_size": 16, "embed_dim": 12, "depths": [2], "num_heads": [2], "mlp_ratio": 2, "window_size": 8}
    return {"upscale": scale, **common, "upsampler": upsampler if scale > 1 else "", **more}


def fixed(**options: Any) -> Callable[[int], Options]:
    return lambda scale: options


def named(key: str, **options: Any) -> Callable[[int], Options]:
    return lambda scale: {key: scale, **options}


SMALL: Mapping[str, Small] = {
    "ATD": Small(lambda s: swin(s, embed_dim=16, category_size=32, num_tokens=8, reducted_dim=4)),
    "AuraSR": Small(
        fixed(
            dim=8,
            image_size=None,
            input_image_size=None,
            skip_connect_scale=0.4,
            style_network={"dim_in": 8, "dim_out": 8, "depth": 1},
            up_dim_mults=(1,) * 5,
            down_dim_mults=(1,) * 3,
            full_attn=(False,) * 5,
            attn_depths=(1,) * 5,
            mid_attn_depth=1,
            num_conv_kernels=2,
            self_attn_dim_head=4,
        ),
        (4,),
    ),
    "CRAFT": Small(named("upscale", embed_dim=16, depths=[2], num_heads=[2])),
    "Compact": Small(named("upscale", num_feat=8, num_conv=2)),
    "DAT": Small(
        named("upscale", img_size=16, embed_dim=16, depth=[3], num_heads=[2], expansion_factor=2.0, split_size=[2, 4])
    ),
    "DCTLSA": Small(named("upscale", nf=20)),
    "DITN": Small(named("upscale", dim=8, ITL_blocks=1, SAL_blocks=1)),
    "DRCT": Small(lambda s: swin(s, "pixelshuffle", depths=[6], gc=4), (2, 3, 4)),
    "DRUNet": Small(fixed(in_nc=4, out_nc=3, nc=[8] * 4, nb=2), (1,)),
    "DnCNN": Small(fixed(in_nc=3, out_nc=3, nc=8, nb=4), (1,)),
    "ESRGAN": Small(named("scale", num_filters=8, num_blocks=1), (1, 2, 4)),
    "FBCNN": Small(fixed(nc=[8, 8, 8, 512], nb=2), (1,)),
    "FDAT": Small(named("scale", embed_dim=16, num_groups=1, depth_per_group=1, num_heads=2, mid_dim=8)),
    "FFTformer": Small(fixed(dim=8, num_blocks=[1, 1, 1], num_refinement_blocks=1), (1,)),
    "GRL": Small(
        lambda s: {
            "upscale": s,
            "upsampler": "pixelshuffledirect" if s > 1 else "",
            "img_size": 16,
            "embed_dim": 12,
            "depths": [1],
            "num_heads_window": [2],
            "num_heads_stripe": [2],
            "mlp_ratio": 2.0,
        }
    ),
    "HAT": Small(lambda s: swin(s, "pixelshuffle", squeeze_factor=4, num_feat=8), (2, 3, 4)),
    "HVICIDNet": Small(fixed(channels=[8, 8, 16, 16], heads=[1, 1, 2, 2]), (1,)),
    "IPT": Small(lambda s: {"scale": [s], "patch_size": 24, "n_feats": 4, "num_layers": 1}),
    "KBNet (small)": Small(
        fixed(width=8, middle_blk_num=1, enc_blk_nums=[1], dec_blk_nums=[1]), (1,), lambda s: "KBNet_s", "KBNet"
    ),
    "KBNet (large)": Small(
        fixed(dim=48, num_blocks=[1] * 4, num_refinement_blocks=1, heads=[1] * 4), (1,), lambda s: "KBNet_l", "KBNet"
    ),
    "LaMa": Small(fixed(in_nc=4), (1,)),
    "MMRealSR": Small(
        named(
            "scale",
            num_in_ch=3,
            num_out_ch=3,
            num_feat=8,
            num_block=1,
            num_grow_ch=4,
            num_feats=[8] * 4,
            num_blocks=[1] * 4,
        ),
        (1, 2, 4),
    ),
    "MixDehazeNet": Small(fixed(embed_dims=[8, 16, 32, 16, 8]), (1,)),
    "MoESR": Small(named("scale", dim=8, n_blocks=1, n_block=1, upsample_dim=8)),
    "MoSR": Small(named("upscale", n_block=1, dim=8)),
    "NAFNet": Small(fixed(width=8, enc_blk_nums=[1], dec_blk_nums=[1]), (1,)),
    "OmniSR": Small(named("up_scale", num_feat=16)),
    "PLKSR": Small(named("upscaling_factor", dim=8, n_blocks=1, kernel_size=5)),
    "RealPLKSR": Small(
        named("upscaling_factor", dim=16, n_blocks=1, kernel_size=5), ALL, lambda s: "RealPLKSR", "PLKSR"
    ),
    "RCAN": Small(named("scale", n_resgroups=1, n_resblocks=1, n_feats=16, reduction=4), (2, 3, 4)),
    "RGT": Small(named("upscale", img_size=16, embed_dim=16, depth=[2], num_heads=[2], mlp_ratio=2.0)),
    "RealCUGAN": Small(fixed(), (2, 3, 4), lambda s: f"UpCunet{s}x"),
    "RestoreFormer": Small(
        fixed(n_embed=16, embed_dim=16, ch=64, ch_mult=(1,) * 6, num_res_blocks=1, z_channels=16, head_size=2), (1,)
    ),
    "RetinexFormer": Small(fixed(n_feat=8, stage=1), (1,)),
    "SAFMN": Small(named("upscaling_factor", dim=8, n_blocks=1)),
    "SAFMNBCIE": Small(fixed(dim=8, n_blocks=1, num_layers=1), (1,)),
    "SCUNet": Small(fixed(config=[1] * 7), (1,)),
    "SPAN": Small(named("upscale", num_in_ch=3, num_out_ch=3, feature_channels=8)),
    "SeemoRe": Small(named("scale", num_experts=3, num_layers=1, embedding_dim=8)),
    "SwiftSRGAN": Small(named("upscale_factor", num_channels=8, num_blocks=1), (1, 2, 4)),
    "Swin2SR": Small(swin),
    "SwinIR": Small(swin),
    "Uformer": Small(fixed(img_size=128, embed_dim=8, depths=[1] * 9, num_heads=[1] * 9), (1,)),
}
NOT_SMALL = {"GFPGAN": "not checked: spandrel reads one size alone, 86 million parameters for faces of 512 pixels"}


def state_of(name: str, scale: int) -> dict[str, torch.Tensor]:
    """Return the random weights of a small model; biases and norms too, whose first values would hide mistakes."""
    small = SMALL[name]
    module = importlib.import_module(f"spandrel.architectures.{small.folder or name}")
    with torch.random.fork_rng(devices=[]), meshgrid_silenced():
        torch.manual_seed(0)
        model: nn.Module = getattr(module, small.of_scale(scale) if small.of_scale else name)(**small.options(scale))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape))
    return dict(model.state_dict())


def scales_of(name: str) -> list[int]:
    """Return the scales at which spandrel reads a file of this architecture."""
    with meshgrid_silenced():
        found = {
            scale: spandrel.ModelLoader().load_from_state_dict(state_of(name, scale)) for scale in SMALL[name].scales
        }
    return [scale for scale, descriptor in found.items() if descriptor.scale == scale]


@cache
def saved(name: str, scale: int) -> Path:
    path = Path(tempfile.mkdtemp()) / f"{name}.pth"
    torch.save(state_of(name, scale), path)
    return path


@cache
def backbone(name: str) -> nn.Module:
    """Build the largest scale from its file. Raises `UserError` for what is refused."""
    return build_from_file(saved(name, max(SMALL[name].scales)))


def profile_of(model: nn.Module) -> Matrix:
    """A profile whose crops fit a backbone."""
    side = max(facts(model).sizes.fitted(LR_SIDE, LR_SIDE))
    crop = side * facts(model).scale
    training = {"iterations": 1, "batch_size": 2, "crop": crop, "lr": 0.001, "validate_every": 1}
    return matrix_of(pairs_profile({"test": "all"}, training=training))


class Outcome(NamedTuple):
    scales: list[int]
    sites: str
    unused: int
    refused: dict[str, str]
    """Reasons by row, or one reason for the whole backbone under an empty name."""


def outcome_of(name: str) -> Outcome:
    scales = scales_of(name)
    try:
        model = backbone(name)
        sites = find_sites(model)
    except UserError as refusal:
        return Outcome(scales, "", 0, {"": reason_of(refusal)})
    matrix = profile_of(model)
    refused = {}
    for row in ROWS:
        try:
            accept(matrix, name, model, sites, [row], torch.device("cpu"))
        except UserError as refusal:
            refused[row] = reason_of(refusal)
    kinds = [site.kind for site in sites]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in ("conv", "attention", "mlp") if kind in kinds)
    return Outcome(scales, counts, len(dead_sites(model)), refused)


def reason_of(refusal: UserError) -> str:
    """Return a refusal without the places and advice that differ between machines."""
    text = str(refusal)
    for row in ROWS:
        text = (text.partition(f"{row}: ")[2] or text).removeprefix(f"{row.split('/')[0]}: ")
    return text.rpartition(".pth: ")[2].partition("; ")[0]


def line(name: str) -> str:
    if name in NOT_SMALL:
        return f"| {name} | | {NOT_SMALL[name]} | | |"
    found = outcome_of(name)
    said = "; ".join(f"{row}: {reason}" if row else reason for row, reason in found.refused.items())
    outcome = f"refused: {said}" if "" in found.refused else "works" + (f", but {said}" if said else "")
    scales = " ".join(f"x{scale}" for scale in found.scales)
    return f"| {name} | {scales} | {outcome} | {found.sites} | {found.unused or ''} |"


def page() -> str:
    lines = [line(name) for name in sorted([*SMALL, *NOT_SMALL], key=str.lower)]
    return f"""# Architectures

Every architecture of spandrel {spandrel.__version__}, built small with random weights, saved, and read back as `architecture: auto` reads a file. EDSR comes
from basicsr, at x2 to x4. Made by `python -m tests.backbones.every_architecture`; a test compares this page with what it makes.

*Works* means: at its largest scale the backbone restores 17 x 23, 18 x 22 and 5 x 7 pixels within one level of spandrel's own result, and
full fine-tuning, rank-aware LoRA, ARC and DiffFit each plan, attach, take one training step that reaches everything they train, and
merge into a plain file that restores the same image. *Sites* are those of the small model. *Unused* are its layers that the
forward pass does not use; they are no sites and do not train.

| architecture | scales | outcome | sites | unused |
|---|---|---|---|---|
{chr(10).join(lines)}

`adaptsr check-backbone FILE` tries a file of yours with every row of a profile. DiffFit takes the names of branch ends in its option
`branch_ends` where it finds none: `adaptsr sites --backbone FILE` lists the layers.
"""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
