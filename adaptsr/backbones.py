"""Backbones: building them, loading their checkpoints, listing the sites where a baseline can adapt them."""

from __future__ import annotations

import fnmatch
import importlib
import itertools
import math
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import nn
from torch.nn import functional

from adaptsr import config
from adaptsr.data.fetch import resolve_weights
from adaptsr.errors import UserError

Kind = Literal["conv", "attention", "mlp"]
Correction = Literal["conv", "attention", "mlp", "skip"]
StateDict = Mapping[str, torch.Tensor]

ATTENTION = re.compile(r"(^|[._])(attn|attention|self_attn|msa|w?qkv|to_qkv|to_q|to_k|to_v|to_out)([._0-9]|$)")
MOST_TIMES_ITS_SIZE = 4
SMALLEST_LIMIT_BYTES = 1 << 20
EDSR_DEFAULTS: dict[str, Any] = {"num_feat": 64, "num_block": 16}


@dataclass(frozen=True)
class Site:
    """A layer that can be adapted.

    `shape` is the weight's: (out, in) of a Linear, (out, in / groups, height, width) of a Conv2d.
    `upsampling` marks a layer whose output feeds a pixel shuffle: the paper leaves those alone.
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    groups: int
    bias: bool
    upsampling: bool

    @property
    def is_linear(self) -> bool:
        return len(self.shape) == 2

    @property
    def in_features(self) -> int:
        """Input width: features of a Linear, channels of a Conv2d."""
        return self.shape[1] * self.groups

    @property
    def out_features(self) -> int:
        return self.shape[0]

    @property
    def grouped(self) -> bool:
        return self.groups > 1

    @property
    def weights(self) -> int:
        """Number of weights, biases left out."""
        return torch.Size(self.shape).numel()

    @property
    def role(self) -> str:
        """Last part of the name that is not a number: `qkv`, `fc1`, `conv_first`."""
        return next((part for part in reversed(self.name.split(".")) if not part.isdigit()), self.name)

    @property
    def stage(self) -> str:
        """Name up to and including its first number: `layers.3`; the first part where there is none."""
        match = re.match(r"(.*?\.\d+)(\.|$)", self.name)
        return match.group(1) if match else self.name.split(".")[0]


def build(backbone: config.Backbone, scale: int, lr_size: int | None = None, load: bool = True) -> nn.Module:
    """The backbone of a profile, with its checkpoint's weights, in eval mode.

    `lr_size` is the side of the LR crops it will be trained on: window attention precomputes its masks for that size.
    Without `load` the weights are random (from torch's global generator), but for architecture `auto`, which is found
    in its weights. Raises `UserError` naming the architecture, scale, option or key that does not fit.
    """
    if backbone.architecture == config.AUTO:
        path = resolve_weights(str(backbone.weights))
        return _ready(_checked_scale(*_detected(read_checkpoint(path), str(path), lr_size), scale, path))
    state = read_checkpoint(resolve_weights(backbone.weights)) if backbone.weights and load else None
    options = dict(backbone.options)
    if not options and state is not None and backbone.architecture != "edsr":
        options = _options_of(backbone.architecture, state)
    if lr_size is not None and "img_size" in options:
        options["img_size"] = lr_size
    model = _construct(backbone.architecture, options, scale)
    if state is not None:
        load_weights(model, state, str(backbone.weights))
    return _ready(model)


def build_from_file(path: Path) -> nn.Module:
    """A backbone from nothing but its checkpoint: EDSR by its keys, anything else as spandrel detects it."""
    model, _ = _detected(read_checkpoint(resolve_weights(str(path))), str(path))
    return _ready(model)


def _ready(model: nn.Module) -> nn.Module:
    """In eval mode, and in the memory layout in which convolutions run fastest: kernels with their channels last."""
    return model.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _detected(state: StateDict, where: str, lr_size: int | None = None) -> tuple[nn.Module, int]:
    """The loaded model and its scale. Spandrel's own model: some of its classes rename the keys of a checkpoint."""
    if "conv_first.weight" in state and "body.0.conv1.weight" in state and "conv_last.weight" in state:
        width = len(state["conv_first.weight"])
        blocks = sum(bool(re.fullmatch(r"body\.\d+\.conv1\.weight", key)) for key in state)
        upsampling = [len(value) for key, value in state.items() if re.fullmatch(r"upsample\.\d+\.weight", key)]
        scale = math.isqrt(math.prod(channels // width for channels in upsampling))
        model = _construct("edsr", {"num_feat": width, "num_block": blocks}, scale)
        load_weights(model, state, where)
        return model, scale
    descriptor = _descriptor(state, where)
    if (descriptor.input_channels, descriptor.output_channels) != (3, 3):
        raise UserError(
            f"{where}: a model from {descriptor.input_channels} to {descriptor.output_channels} channels; one for colour images (3 to 3) was expected"
        )
    found: nn.Module = descriptor.model
    options = getattr(found, "hyperparameters", {})
    if lr_size is not None and options.get("img_size", lr_size) != lr_size:
        with _meshgrid_silenced():
            found = type(found)(**{**options, "img_size": lr_size})
        load_weights(found, descriptor.model.state_dict(), where)
    return found, int(descriptor.scale)


def _checked_scale(model: nn.Module, found: int, scale: int, path: Path) -> nn.Module:
    if found != scale:
        raise UserError(f"{path}: weights of a model of scale {found}, that of the profile is {scale}")
    return model


def _construct(architecture: str, options: Mapping[str, Any], scale: int) -> nn.Module:
    try:
        if architecture == "edsr":
            from adaptsr.basicsr_compat import basicsr_module

            edsr = basicsr_module("archs.edsr_arch").EDSR
            model: nn.Module = edsr(num_in_ch=3, num_out_ch=3, upscale=scale, **{**EDSR_DEFAULTS, **options})
            return model
        with _meshgrid_silenced():
            return _spandrel_class(architecture)(**options)
    except (TypeError, ValueError) as error:
        raise UserError(f"backbone {architecture}: these options do not fit the architecture: {error}") from None


@contextmanager
def _meshgrid_silenced() -> Iterator[None]:
    """Swin's window indices call torch.meshgrid in a way that torch warns about, in every process, twice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.meshgrid")
        yield


def _spandrel_class(architecture: str) -> type[nn.Module]:
    known = config.architectures()
    if architecture not in known:
        raise UserError(
            f"backbone architecture {architecture!r} is unknown{config.suggestion(architecture, known)}; there are {', '.join(known)}"
        )
    module = importlib.import_module(f"spandrel.architectures.{architecture}")
    names = [name for name in module.__all__ if not name.endswith("Arch")]
    found: type[nn.Module] = getattr(module, architecture if architecture in names else names[0])
    return found


def _options_of(architecture: str, state: StateDict) -> dict[str, Any]:
    """Constructor arguments that spandrel reads off a checkpoint's keys and shapes."""
    descriptor = _descriptor(state, f"backbone {architecture}")
    found = descriptor.architecture.id
    if found != architecture:
        raise UserError(
            f"backbone {architecture}: the checkpoint is of architecture {found!r}; set `architecture: {found}`"
        )
    return dict(descriptor.model.hyperparameters)


def _descriptor(state: StateDict, where: str) -> Any:
    import spandrel

    try:
        with _meshgrid_silenced():
            return spandrel.ModelLoader().load_from_state_dict(dict(state))
    except spandrel.UnsupportedModelError:
        raise UserError(f"{where}: spandrel knows no architecture with this checkpoint's keys") from None
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{where}: spandrel knows the keys of this checkpoint, but not its sizes: {reason}") from None


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a checkpoint (.safetensors, or a pickle read with `weights_only`), in the layout of our architectures.

    Understands `params`, `params_ema`, `state_dict` and bare layouts, the `module.` prefix and both key styles of EDSR.
    Nothing in the file is executed, and no more is made of it than it holds; `UserError` says what was refused.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        most = _most_bytes(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path}: refused as a checkpoint: {reason}; give plain tensors (.safetensors, or a .pth that torch.load(weights_only=True) takes)"
        ) from None
    state = _unwrap(content, path)
    claimed = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if claimed > most:
        raise UserError(
            f"{path}: refused as a checkpoint: its tensors claim {claimed} bytes, far more than the file holds"
        )
    return state


def _most_bytes(path: Path) -> int:
    """What tensors of a checkpoint may claim: some share their bytes, but not many. `ValueError` for a bomb."""
    size = path.stat().st_size
    most = MOST_TIMES_ITS_SIZE * size + SMALLEST_LIMIT_BYTES
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > most:
            raise ValueError(f"it unpacks to {unpacked} bytes, far more than its {size}")
    return most


def _unwrap(content: Any, path: Path) -> dict[str, torch.Tensor]:
    for key in ("params_ema", "params", "state_dict", "model_state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if (
        not isinstance(content, dict)
        or not content
        or not all(isinstance(value, torch.Tensor) for value in content.values())
    ):
        raise UserError(
            f"{path}: holds no state dict; a mapping of names to tensors was expected, bare or under 'params' or 'params_ema'"
        )
    state = {str(key): value for key, value in content.items()}
    if all(key.startswith("module.") for key in state):
        state = {key.removeprefix("module."): value for key, value in state.items()}
    if "head.0.weight" in state and "body.0.body.0.weight" in state:
        return _edsr_from_authors(state)
    return state


def _edsr_from_authors(state: StateDict) -> dict[str, torch.Tensor]:
    """EDSR's keys as its authors' repository writes them, to basicsr's.

    Their mean-shift layers (`sub_mean`, `add_mean`) are constants that basicsr keeps outside the state dict.
    """
    blocks = sum(bool(re.fullmatch(r"body\.\d+\.body\.0\.weight", key)) for key in state)
    renamed = {}
    for key, value in state.items():
        if key.startswith(("sub_mean.", "add_mean.")):
            continue
        new = re.sub(r"^head\.0\.", "conv_first.", key)
        new = re.sub(r"^body\.(\d+)\.body\.0\.", r"body.\1.conv1.", new)
        new = re.sub(r"^body\.(\d+)\.body\.2\.", r"body.\1.conv2.", new)
        new = re.sub(rf"^body\.{blocks}\.(weight|bias)$", r"conv_after_body.\1", new)
        new = re.sub(r"^tail\.0\.", "upsample.", new)
        new = re.sub(r"^tail\.1\.", "conv_last.", new)
        renamed[new] = value
    return renamed


def load_weights(model: nn.Module, state: StateDict, source: str) -> None:
    """Load a state dict whose keys must be the model's; the size-dependent attention masks are kept as built."""
    own = model.state_dict()
    rebuilt = {key for key in own if key.rsplit(".", 1)[-1] in ("attn_mask", "relative_position_index")}
    missing = sorted(set(own) - set(state) - rebuilt)
    unknown = sorted(set(state) - set(own) - {key for key in state if key.rsplit(".", 1)[-1] == "attn_mask"})
    if missing or unknown:
        what = f"lacks {missing[0]!r}" if missing else f"has {unknown[0]!r}, which the architecture lacks"
        raise UserError(
            f"{source}: this checkpoint does not fit the backbone: it {what} ({len(missing)} keys missing, {len(unknown)} unknown)"
        )
    for key, value in state.items():
        if key not in rebuilt and key in own and own[key].shape != value.shape:
            raise UserError(f"{source}: {key} has shape {tuple(value.shape)}, the backbone has {tuple(own[key].shape)}")
    for key, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(f"{source}: {key} holds values that are no numbers (NaN or infinite); give sound weights")
    model.load_state_dict({key: own[key] if key in rebuilt else state[key] for key in own})


def find_sites(model: nn.Module, corrections: Mapping[str, Correction] | None = None) -> list[Site]:
    """Every Linear and Conv2d in module order, with the kind that structure and names suggest.

    `corrections` maps a site's name or a pattern to its kind; `skip` removes it. `UserError` for a pattern that
    matches no site.
    """
    shuffled = _feeding_pixel_shuffle(model)
    sites = [
        Site(
            name=name,
            kind=_kind(name, module),
            shape=tuple(module.weight.shape),
            groups=getattr(module, "groups", 1),
            bias=module.bias is not None,
            upsampling=name in shuffled or name.split(".")[0] == "upsample",
        )
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | nn.Conv2d)
    ]
    return _corrected(sites, corrections or {})


def _kind(name: str, module: nn.Module) -> Kind:
    if isinstance(module, nn.Conv2d):
        return "conv"
    return "attention" if ATTENTION.search(name) else "mlp"


def _feeding_pixel_shuffle(model: nn.Module) -> set[str]:
    names = set()
    for parent_name, parent in model.named_modules():
        if isinstance(parent, nn.Sequential):
            children = list(parent.named_children())
            for (name, child), (_, following) in itertools.pairwise(children):
                if isinstance(child, nn.Conv2d) and isinstance(following, nn.PixelShuffle):
                    names.add(f"{parent_name}.{name}" if parent_name else name)
    return names


def _corrected(sites: Sequence[Site], corrections: Mapping[str, Correction]) -> list[Site]:
    kinds: dict[str, Correction] = {}
    for pattern, kind in corrections.items():
        matched = fnmatch.filter([site.name for site in sites], pattern)
        if not matched:
            raise UserError(
                f"kinds: no site {pattern!r} in this backbone{config.suggestion(pattern, [s.name for s in sites])}; `adaptsr sites` lists them"
            )
        kinds.update(dict.fromkeys(matched, kind))
    kept = []
    for site in sites:
        kind = kinds.get(site.name, site.kind)
        if kind != "skip":
            kept.append(replace(site, kind=kind))
    return kept


def select(
    sites: Iterable[Site],
    kinds: Iterable[str] = ("conv", "attention", "mlp"),
    upsampling: bool = False,
    grouped: bool = False,
) -> list[Site]:
    """The sites of these kinds; those that feed a pixel shuffle and grouped convolutions only when asked for."""
    wanted = set(kinds)
    unknown = wanted - {"conv", "attention", "mlp"}
    if unknown:
        raise UserError(f"kinds: {sorted(unknown)[0]!r} is no kind of site; there are attention, conv, mlp")
    return [s for s in sites if s.kind in wanted and (upsampling or not s.upsampling) and (grouped or not s.grouped)]


def restore(model: nn.Module, lr: torch.Tensor, scale: int) -> torch.Tensor:
    """Super-resolve uint8 LR images (N, 3, H, W) to uint8 (N, 3, scale H, scale W).

    Windows need sizes that are multiples of theirs: LR is reflected at the far borders and the result cut back.
    """
    multiple = int(getattr(model, "window_size", 1))
    height, width = lr.shape[-2:]
    padding = (0, -width % multiple, 0, -height % multiple)
    device = next(model.parameters()).device
    with torch.inference_mode():
        images = lr.to(device=device, dtype=torch.float32) / 255
        images = functional.pad(images, padding, mode="reflect") if any(padding) else images
        restored: torch.Tensor = model(images)[..., : height * scale, : width * scale]
        return (restored.clamp(0, 1) * 255).round().to(device="cpu", dtype=torch.uint8)
