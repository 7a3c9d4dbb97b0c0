"""Keys: hashes of everything that determines a run, made of content.

A path, the text of a file, a title or an option at its default is no part of a key, so that a finished run outlives
renamed folders, edited comments and new options of the code. Images enter by the digest of their split, weights by the
SHA-256 of their file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pydantic

from adaptsr.files import digest

if TYPE_CHECKING:
    from adaptsr.adaptation.baseline_files import Variant
    from adaptsr.config.schema import Profile, Training

WRITTEN_DOWN = {"checkpoint_minutes", "checkpoint_iterations"}
"""Keys of the schedule that change when things are written, not what comes out."""


class Inputs(pydantic.BaseModel):
    """The files that a run is made from.

    weights: SHA-256 of the checkpoint it starts from, None for random weights. train: digests of the splits that
    training draws from, in the profile's order. validation: digest of the split that is followed.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    weights: str | None
    train: tuple[str, ...]
    validation: str


def variant_key(profile: Profile, backbone: str, variant: Variant, training: Training) -> str:
    """Hash what profile and baseline file ask for: all of a run but its files and its seed.

    It needs no file on disk, so that Snakemake can know it before anything is fetched.
    """
    return digest(
        {
            "protocol": profile.protocol,
            "scale": profile.scale,
            "compute": _stated(profile.compute, include={"threads", "deterministic"}),
            "backbone": _stated(profile.backbones[backbone], exclude={"title", "weights", "below_bicubic"}),
            "method": _method(variant),
            "training": _stated(training, exclude=WRITTEN_DOWN),
            "sources": [_stated(source, include={"weight", "degradation"}) for source in profile.data.train],
        }
    )


def run_key(variant: str, inputs: Inputs, seed: int) -> str:
    """Hash everything that determines a run; a finished run with this key is never trained again.

    variant: of `variant_key`.
    """
    return digest({"variant": variant, "inputs": inputs.model_dump(mode="json"), "seed": seed})


def changed_options(variant: Variant) -> Mapping[str, Any]:
    """Return the options that differ from the baseline file's defaults, without the title."""
    defaults = variant.baseline.options
    return {
        key: value
        for key, value in variant.options.items()
        if key != "title" and not (key in defaults and defaults[key] == value)
    }


def _method(variant: Variant) -> list[Any]:
    """A variant and, within it, the variant that its budget names."""
    budget = _method(variant.budget) if variant.budget else None
    return [variant.baseline.name, variant.baseline.protocol, changed_options(variant), budget]


def _stated(section: pydantic.BaseModel, **fields: Any) -> dict[str, Any]:
    """Dump a section without what is at its default: a new option with a default changes no key."""
    return section.model_dump(mode="json", exclude_defaults=True, **fields)
