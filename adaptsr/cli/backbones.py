"""Commands that inspect a profile: `list`, `sites` and `params`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from typing import TYPE_CHECKING

from adaptsr.adaptation.baseline_files import defined_variants
from adaptsr.cli.common import FULL_SIZE_PROFILE, Commands, load_matrix, name_or_path, progress, with_profile
from adaptsr.runs.matrix import Matrix

if TYPE_CHECKING:
    from torch import nn

    from adaptsr.backbones.sites import Site


def add(commands: Commands) -> None:
    listed = with_profile(commands.add_parser("list", help="list what a profile can name"), FULL_SIZE_PROFILE)
    listed.add_argument("what", choices=["backbones", "baselines", "datasets"])
    listed.set_defaults(command=_list)

    sites = with_profile(
        commands.add_parser("sites", help="list a backbone's sites with their kinds"), FULL_SIZE_PROFILE
    )
    sites.add_argument("--backbone", type=name_or_path, required=True, metavar="NAME_OR_FILE")
    sites.set_defaults(command=_sites)

    params = with_profile(commands.add_parser("params", help="count the parameters of a variant"), FULL_SIZE_PROFILE)
    params.add_argument("--backbone", type=name_or_path, required=True, metavar="NAME_OR_FILE")
    params.add_argument("--variant", required=True, metavar="BASELINE/VARIANT")
    params.add_argument("--json", action="store_true")
    params.set_defaults(command=_params)


def _list(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)
    profile = matrix.profile
    if parsed.what == "backbones":
        for name, backbone in profile.backbones.items():
            print(f"{name:<12} {backbone.architecture:<10} {backbone.title or ''}")
    elif parsed.what == "datasets":
        for name, dataset in profile.datasets.items():
            print(f"{name:<16} {dataset.kind}")
    else:
        for name, file in matrix.baselines.items():
            print(f"{name}: {file.summary}\n  trains {file.trains}")
            for variant in defined_variants(file, profile.baselines.get(name)):
                row = f"{name}/{variant}"
                print(f"  {row:<34} {matrix.variant(row).title}")


def _sites(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)

    from adaptsr.adaptation.counting import sites_as_text

    print(sites_as_text(_announced(matrix, parsed.backbone)[1]))
    print(
        "Correct a wrong kind in the profile: backbones.<name>.kinds: {<site or pattern>: conv | attention | mlp | skip}",
        file=sys.stderr,
    )


def _announced(matrix: Matrix, name: str) -> tuple[nn.Module, list[Site]]:
    """Build a backbone and find its sites; say what reading its file decided."""
    from adaptsr.backbones.gate import facts
    from adaptsr.runs.backbones import backbone_and_sites

    model, sites = backbone_and_sites(matrix, name)
    for note in facts(model).notes:
        progress(note)
    return model, sites


def _params(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)
    variant = matrix.variant(parsed.variant)

    from adaptsr.adaptation.counting import as_text, count

    model, sites = _announced(matrix, parsed.backbone)
    counted = count(model, sites, variant, matrix.profile.scale, parsed.backbone)
    print(json.dumps(dataclasses.asdict(counted), indent=1) if parsed.json else as_text(counted))
