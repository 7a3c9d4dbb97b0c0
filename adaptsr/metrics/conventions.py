"""Resolve each metric of a profile: pyiqa's metric, its options with ours pinned, its color space, its trained weights.

pyiqa's default Y is full-range YIQ luma, 1.32 dB below the studio-swing BT.601 Y of the super-resolution literature, so
every metric that compares with a reference by a choice of Y uses `ycbcr`. NIQE and BRISQUE keep `yiq`, with which their
published values are measured. Imports neither torch nor pyiqa.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adaptsr.config.schema import DRIFT, Metric, Objective, Profile, Scoring, Split
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.metrics.pyiqa_source import pyiqa_class, pyiqa_metrics, pyiqa_weights

_LUMA: Mapping[str, Any] = {"test_y_channel": True, "color_space": "yiq"}
_PINNED: Mapping[str, Mapping[str, Any]] = {
    # eps 0 makes the PSNR of identical images infinite instead of 80 dB
    "psnr": {"test_y_channel": True, "color_space": "ycbcr", "eps": 0.0},
    "psnry": {"color_space": "ycbcr", "eps": 0.0},
    "ssim": {"test_y_channel": True, "color_space": "ycbcr"},
    "ssimc": {"color_space": "ycbcr"},
    "ms_ssim": {"color_space": "ycbcr"},
    "cw_ssim": {"color_space": "ycbcr"},
    "niqe": _LUMA,
    "niqe_matlab": _LUMA,
    "brisque": _LUMA,
    "brisque_matlab": _LUMA,
}
PERCEPTUAL = "PerceptualLoss"
"""The architecture of basicsr's loss between features of VGG19."""
_Y_SPACES = ("ycbcr", "yiq", "lhm")
_FIXED_Y = ("GMSD", "NLPD", "MAD")
_FIXED_SPACES = {"VIF": "yiq", "FSIM": "yiq", "VSI": "lmn"}
_PSNR_FUNCTION_OPTIONS = frozenset({"data_range", "eps", "color_space"})
_OF_SETS = ("FID", "InceptionScore", "CLIPScore")
"""Architectures that score a set of images, or an image with its caption."""


@dataclass(frozen=True)
class Convention:
    """How one column is measured.

    color_space: where the metric compares: `ycbcr` (studio-swing BT.601 Y), `yiq` (full-range luma), `lmn`, or `rgb` for
    metrics that take the colors themselves. heading: the title; without a reference, with the metric's trained weights.
    reference: whether it compares with HR. weights: the file of its own trained weights, empty if it has none.
    """

    column: str
    name: str
    architecture: str
    options: Mapping[str, Any]
    color_space: str
    lower_is_better: bool
    heading: str = ""
    reference: bool = True
    weights: str = ""


def conventions(scoring: Scoring) -> list[Convention]:
    """Return the conventions of a profile's metrics, in their order.

    Raises `UserError` for a metric that pyiqa lacks or that does not score single images, an unknown option, a missing
    weights file, and an LPIPS column whose title hides a network other than AlexNet.
    """
    return [_convention(column, metric) for column, metric in scoring.metrics.items()]


def scoring_of(profile: Profile, dataset: str) -> Scoring:
    """Return what is measured on a dataset: the profile's metrics, or PSNR-Y on that of the column Drift."""
    drift = profile.data.drift
    if drift is None or drift.dataset != dataset:
        return profile.scoring
    return profile.scoring.model_copy(update={"metrics": _drift(drift)})


def whole_scoring(profile: Profile) -> Scoring:
    """Return everything that is measured on any dataset."""
    drift = profile.data.drift
    metrics = {**profile.scoring.metrics, **(_drift(drift) if drift else {})}
    return profile.scoring.model_copy(update={"metrics": metrics})


def _drift(drift: Split) -> dict[str, Metric]:
    return {DRIFT: Metric(name="psnr", title=f"Drift: PSNR-Y on {drift.dataset}")}


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
    title = metric.title or column
    if architecture == "LPIPS":
        _check_lpips(where, title, options)
    options = _with_expanded_path(where, options)
    reference = entry["metric_mode"] == "FR"
    own = None if options.get("pretrained_model_path") else pyiqa_weights(metric.name, architecture, options)
    return Convention(
        column=column,
        name=metric.name,
        architecture=architecture,
        options=options,
        color_space=_color_space(architecture, options),
        lower_is_better=bool(entry.get("lower_better", False)),
        heading=title if reference else _heading(title, metric.name, own, options),
        reference=reference,
        weights=own[1] if own else "",
    )


def _heading(title: str, name: str, weights: tuple[str, str] | None, options: Mapping[str, Any]) -> str:
    """Return the title with what it does not say of pyiqa's metric and its trained weights: `MANIQA (koniq)`."""
    if path := options.get("pretrained_model_path"):
        trained = Path(path).name
    else:
        trained = weights[0] if weights and weights[0] != "url" else ""
    missing = [word for word in (name, trained) if word.lower() not in title.lower()]
    if len(missing) == 2 and trained in name:
        missing = [name]
    return f"{title} ({', '.join(missing)})" if missing else title


def _entry(where: str, name: str) -> Mapping[str, Any]:
    table = pyiqa_metrics()
    usable = [known for known, entry in table.items() if entry["metric_opts"]["type"] not in _OF_SETS]
    if name in usable:
        return table[name]
    if name in table:
        raise UserError(f"{where}.name: {name!r} does not score a single image; metrics that do are {listing(usable)}")
    close = difflib.get_close_matches(name, usable, n=4, cutoff=0.5)
    known = f"close names are {', '.join(close)}" if close else f"metrics are {listing(usable)}"
    raise UserError(f"{where}.name: pyiqa has no metric {name!r}; {known}")


def _check_options(where: str, metric: Metric, architecture: str) -> None:
    if "crop_border" in metric.options:
        raise UserError(f"{where}.options.crop_border: set scoring.crop_border instead, the same for every metric")
    known = {*pyiqa_class(architecture).options, *(_PSNR_FUNCTION_OPTIONS if architecture == "PSNR" else ())}
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
