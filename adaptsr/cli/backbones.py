"""Commands that inspect a profile and its backbones: `list`, `sites`, `params` and `check-backbone`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from adaptsr.adaptation.baseline_files import defined_variants
from adaptsr.cli.common import (
    FULL_SIZE_PROFILE,
    Commands,
    load_matrix,
    name_or_path,
    progress,
    user_path,
    with_profile,
)
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

    check = with_profile(
        commands.add_parser(
            "check-backbone", help="check that a backbone trains and merges with every row of a profile"
        )
    )
    check.add_argument("backbone", type=name_or_path, metavar="NAME_OR_FILE")
    check.add_argument("--out", type=user_path, metavar="FILE", help="remember the result in this file")
    check.set_defaults(command=_check)

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
    from adaptsr.backbones.sites import dead_sites

    model, sites = _announced(matrix, parsed.backbone)
    print(sites_as_text(sites))
    if dead := dead_sites(model):
        print(f"Unused by this backbone's forward, and no sites: {', '.join(dead)}", file=sys.stderr)
    print(
        "Correct a wrong kind in the profile: backbones.<name>.kinds: {<site or pattern>: conv | attention | mlp | skip}",
        file=sys.stderr,
    )


def _announced(matrix: Matrix, name: str, load: bool = False) -> tuple[nn.Module, list[Site]]:
    """Build a backbone and find its sites; say what reading its file decided."""
    from adaptsr.backbones.gate import facts
    from adaptsr.runs.backbones import backbone_and_sites

    model, sites = backbone_and_sites(matrix, name, load)
    for note in facts(model).notes:
        progress(note)
    return model, sites


def _check(parsed: argparse.Namespace) -> None:
    named = parsed.backbone if not Path(parsed.backbone).suffix else None
    matrix = load_matrix(parsed, weights=named is not None)

    from adaptsr.adaptation.counting import sites_as_text
    from adaptsr.data.manifest import manifest_path
    from adaptsr.data.store import load_split
    from adaptsr.devices import prepare_device
    from adaptsr.training import acceptance

    device = prepare_device(matrix.profile.compute)
    model, sites = _announced(matrix, parsed.backbone, load=True)
    rows = [row.name for row in matrix.rows if row.trained and (named is None or row.on(named))]
    print(sites_as_text(sites), flush=True)
    validation = matrix.profile.validation
    manifest = manifest_path(validation.dataset)
    pairs = load_split(manifest, validation.split) if manifest.is_file() else None
    if pairs is None:
        progress(f"{manifest}: not prepared, so the weights are not compared with bicubic enlargement")
    accepted = acceptance.accept(matrix, parsed.backbone, model, sites, rows, device, pairs)
    print(acceptance.as_text(accepted))
    if parsed.out:
        acceptance.write(matrix, accepted, parsed.out)


def _params(parsed: argparse.Namespace) -> None:
    matrix = load_matrix(parsed)
    variant = matrix.variant(parsed.variant)

    from adaptsr.adaptation.counting import as_text, count

    model, sites = _announced(matrix, parsed.backbone)
    counted = count(model, sites, variant, parsed.backbone)
    print(json.dumps(dataclasses.asdict(counted), indent=1) if parsed.json else as_text(counted))
