"""Resolve each metric of a profile: pyiqa's metric, its options with ours pinned, its color space.

pyiqa's default Y is full-range YIQ luma, 1.32 dB below the studio-swing BT.601 Y of the super-resolution literature, so
every metric with a choice of Y uses `ycbcr`. This module imports neither torch nor pyiqa: it reads pyiqa's table of
metrics and class signatures from the source files.
"""

from __future__ import annotations

import ast
import difflib
import importlib.util
import runpy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from adaptsr.config.schema import Metric, Objective, Scoring
from adaptsr.errors import UserError, listing, suggestion

_PINNED: Mapping[str, Mapping[str, Any]] = {
    # eps 0 makes the PSNR of identical images infinite instead of 80 dB
    "psnr": {"test_y_channel": True, "color_space": "ycbcr", "eps": 0.0},
    "psnry": {"color_space": "ycbcr", "eps": 0.0},
    "ssim": {"test_y_channel": True, "color_space": "ycbcr"},
    "ssimc": {"color_space": "ycbcr"},
    "ms_ssim": {"color_space": "ycbcr"},
    "cw_ssim": {"color_space": "ycbcr"},
}
PERCEPTUAL = "PerceptualLoss"
"""The architecture of basicsr's loss between features of VGG19."""
_Y_SPACES = ("ycbcr", "yiq", "lhm")
_FIXED_Y = ("GMSD", "NLPD", "MAD")
_FIXED_SPACES = {"VIF": "yiq", "FSIM": "yiq", "VSI": "lmn"}
_PSNR_FUNCTION_OPTIONS = frozenset({"data_range", "eps", "color_space"})


@dataclass(frozen=True)
class Convention:
    """How one column is measured.

    `color_space` is where the metric compares: `ycbcr` (studio-swing BT.601 Y), `yiq` (full-range luma), `lmn`, or
    `rgb` for metrics that compare the colors themselves.
    """

    column: str
    name: str
    architecture: str
    options: Mapping[str, Any]
    color_space: str
    lower_is_better: bool


def conventions(scoring: Scoring) -> list[Convention]:
    """Return the conventions of a profile's metrics, in their order.

    Raises `UserError` for a metric that pyiqa lacks or that needs no reference, an unknown option, a missing weights
    file, and an LPIPS column whose title hides a network other than AlexNet.
    """
    return [_convention(column, metric) for column, metric in scoring.metrics.items()]


def loss_conventions(objective: Objective) -> list[Convention]:
    """Return the networks that the losses of an objective need."""
    return [loss_convention(name, objective) for name in objective.networks]


def loss_convention(name: str, objective: Objective) -> Convention:
    """Return the network of the loss `lpips`, `dists` or `perceptual`."""
    if name == "perceptual":
        options = {"layer_weights": dict(objective.perceptual_layers)}
        return Convention(name, name, PERCEPTUAL, options, color_space="rgb", lower_is_better=True)
    network = objective.lpips_network
    return _convention(name, Metric(name=name, title=network, options={"net": network} if name == "lpips" else {}))


def _convention(column: str, metric: Metric) -> Convention:
    where = f"scoring.metrics.{column}"
    entry = _entry(where, metric.name)
    defaults = dict(entry["metric_opts"])
    architecture = str(defaults.pop("type"))
    _check_options(where, metric, architecture)
    options = {**defaults, **_PINNED.get(metric.name, {}), **metric.options}
    if options.get("color_space", "ycbcr") not in _Y_SPACES:
        raise UserError(
            f"{where}.options.color_space: pyiqa has no color space {options['color_space']!r}; allowed are {listing(_Y_SPACES)}"
        )
    if architecture == "LPIPS":
        _check_lpips(where, metric.title or column, options)
    return Convention(
        column=column,
        name=metric.name,
        architecture=architecture,
        options=_with_expanded_path(where, options),
        color_space=_color_space(architecture, options),
        lower_is_better=bool(entry.get("lower_better", False)),
    )


def _entry(where: str, name: str) -> Mapping[str, Any]:
    table = _pyiqa_metrics()
    usable = [known for known, entry in table.items() if entry.get("metric_mode") == "FR"]
    if name in usable:
        return table[name]
    if name in table:
        raise UserError(
            f"{where}.name: {name!r} does not compare with a reference image; full-reference metrics are {listing(usable)}"
        )
    close = difflib.get_close_matches(name, usable, n=4, cutoff=0.5)
    known = f"close names are {', '.join(close)}" if close else f"full-reference metrics are {listing(usable)}"
    raise UserError(f"{where}.name: pyiqa has no metric {name!r}; {known}")


def _check_options(where: str, metric: Metric, architecture: str) -> None:
    if "crop_border" in metric.options:
        raise UserError(f"{where}.options.crop_border: set scoring.crop_border instead, the same for every metric")
    known = _parameters(architecture)
    for option in metric.options:
        if known and option not in known:
            raise UserError(
                f"{where}.options.{option}: {metric.name!r} has no such option{suggestion(option, known)}; "
                f"allowed are {listing(known)}"
            )


def _check_lpips(where: str, heading: str, options: Mapping[str, Any]) -> None:
    for option, allowed in (("net", ("alex", "vgg", "squeeze")), ("version", ("0.0", "0.1"))):
        if options[option] not in allowed:
            raise UserError(
                f"{where}.options.{option}: allowed are {listing(map(repr, allowed))}, found {options[option]!r}"
            )
    net = options["net"]
    if net != "alex" and net not in heading.lower():
        raise UserError(
            f"{where}.title: {heading!r} would be read as LPIPS with AlexNet; name the network {net!r} in the title"
        )


def _with_expanded_path(where: str, options: dict[str, Any]) -> dict[str, Any]:
    if not options.get("pretrained_model_path"):
        return options
    path = Path(options["pretrained_model_path"]).expanduser()
    if not path.is_file():
        raise UserError(f"{where}.options.pretrained_model_path: no file {path}; give the path of the metric's weights")
    return {**options, "pretrained_model_path": str(path)}


def _color_space(architecture: str, options: Mapping[str, Any]) -> str:
    if "color_space" in options:
        return str(options["color_space"]) if options.get("test_y_channel", True) else "rgb"
    if architecture in _FIXED_Y:
        return "yiq" if options.get("test_y_channel", False) else "rgb"
    return _FIXED_SPACES.get(architecture, "rgb")


def _pyiqa_folder() -> Path:
    spec = importlib.util.find_spec("pyiqa")
    if spec is None or not spec.submodule_search_locations:
        raise UserError("pyiqa is not installed; set up the environment from requirements.lock")
    return Path(next(iter(spec.submodule_search_locations)))


@cache
def _pyiqa_metrics() -> Mapping[str, Mapping[str, Any]]:
    table: Mapping[str, Mapping[str, Any]] = runpy.run_path(str(_pyiqa_folder() / "default_model_configs.py"))[
        "DEFAULT_CONFIGS"
    ]
    return table


@cache
def _parameters(architecture: str) -> frozenset[str]:
    """Return the option names that a pyiqa class takes; empty if its definition is not found."""
    for path in sorted((_pyiqa_folder() / "archs").glob("*_arch.py")):
        source = path.read_text(encoding="utf-8")
        if f"class {architecture}(" in source:
            names = _constructor_arguments(ast.parse(source), architecture)
            return names | _PSNR_FUNCTION_OPTIONS if architecture == "PSNR" else names
    return frozenset()


def _constructor_arguments(module: ast.Module, class_name: str) -> frozenset[str]:
    for definition in module.body:
        if isinstance(definition, ast.ClassDef) and definition.name == class_name:
            for member in definition.body:
                if isinstance(member, ast.FunctionDef) and member.name == "__init__":
                    arguments = [*member.args.args, *member.args.kwonlyargs]
                    return frozenset(argument.arg for argument in arguments) - {"self", "crop_border"}
    return frozenset()
