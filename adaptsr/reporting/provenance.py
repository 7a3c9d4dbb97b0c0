"""Trace the numbers of a report: code, packages, machines, data, weights, and the command that remakes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from adaptsr import files
from adaptsr.data.catalogue import Catalogue, read_catalogue
from adaptsr.data.kinds import kind_of
from adaptsr.data.manifest import SplitName
from adaptsr.project import installed_version
from adaptsr.reporting.metrics import metric_columns
from adaptsr.reporting.results import Results
from adaptsr.reporting.significance import backbone_title
from adaptsr.runs import provenance
from adaptsr.runs.origins import origin_of
from adaptsr.runs.run import Run

DRAWN_WITH = ("adaptsr", "matplotlib", "seaborn", "pandas", "scipy", "jinja2", "pillow")


@dataclass(frozen=True)
class Dataset:
    """A dataset of the profile. digests: each split in use, with the digest of its images."""

    name: str
    used_for: str
    pairs: str
    digests: tuple[tuple[str, str], ...]
    source: str
    licence: str


@dataclass(frozen=True)
class Weights:
    """The weights of an unadapted backbone. sha256: of the file, or empty for random weights."""

    backbone: str
    file: str
    sha256: str
    licence: str


@dataclass(frozen=True)
class Origin:
    """The content of the provenance section. code, machines: each with the number of its runs. hours: of training.

    machines: with who trained which runs there, if there are several.
    """

    command: str
    protocol: int
    code: tuple[tuple[str, int], ...]
    machines: tuple[tuple[str, int], ...]
    packages: tuple[tuple[str, str], ...]
    drawn_with: tuple[tuple[str, str], ...]
    hours: float
    datasets: tuple[Dataset, ...]
    weights: tuple[Weights, ...]
    metrics: tuple[str, ...]


def trace_origin(results: Results, command: str) -> Origin:
    """Collect the provenance of a report. command: what remakes it."""
    found = [record.provenance for record in results.records.values()]
    catalogue = read_catalogue()
    return Origin(
        command=command,
        protocol=results.profile.protocol,
        code=_counted(_code(item) for item in found),
        machines=_machines(results),
        packages=_packages(found),
        drawn_with=tuple((name, installed_version(name)) for name in DRAWN_WITH),
        hours=sum(record.wall_seconds for record in results.records.values()) / 3600,
        datasets=tuple(_datasets(results)),
        weights=tuple(_weights(results, catalogue)),
        metrics=tuple(f"{metric.description}." for metric in metric_columns(results.profile)),
    )


def _counted(texts: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(Counter(texts).items(), key=lambda item: (-item[1], item[0])))


def _machines(results: Results) -> tuple[tuple[str, int], ...]:
    """Group the runs by machine and, for merged ones, by who trained them."""
    groups: dict[str, list[Run]] = {}
    for run, record in results.records.items():
        origin = origin_of(run.folder(results.folder))
        who = f"{origin.by or origin.pack}: " if origin else ""
        groups.setdefault(f"{who}{_machine(record.provenance)}", []).append(run)
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return tuple((text + (_what(runs) if len(groups) > 1 else ""), len(runs)) for text, runs in ordered)


def _what(runs: Sequence[Run]) -> str:
    rows: dict[str, set[int]] = {}
    for run in runs:
        rows.setdefault(f"{run.backbone} {run.variant}", set()).add(run.seed or 0)
    parts: dict[str, list[str]] = {}
    for row, seeds in rows.items():
        parts.setdefault(", ".join(map(str, sorted(seeds))), []).append(row)
    listed = "; ".join(f"{', '.join(names)}, seeds {seeds}" for seeds, names in parts.items())
    return f" ({listed})"


def _code(item: provenance.Provenance) -> str:
    state = {True: ", with uncommitted changes", False: "", None: " (a release, no repository)"}
    return f"{item.code_version}{state[item.code_dirty]}"


def _machine(item: provenance.Provenance) -> str:
    device = "" if item.device == "cpu" else f"{item.device}; "
    processor = item.processor or "unknown processor"
    return f"{device}{processor}, {item.cores} core{'s' if item.cores > 1 else ''}, {item.system}, Python {item.python}"


def _packages(found: Iterable[provenance.Provenance]) -> tuple[tuple[str, str], ...]:
    """List each package with its version, or with all versions if runs differ."""
    versions: dict[str, set[str]] = {}
    for item in found:
        for name, version in item.packages.items():
            versions.setdefault(name, set()).add(version)
    return tuple((name, ", ".join(sorted(versions[name]))) for name in sorted(versions))


def _datasets(results: Results) -> Iterable[Dataset]:
    data = results.profile.data
    used: dict[str, dict[SplitName, list[str]]] = {}
    for role, splits in (("training", data.train), ("validation", data.followed), ("testing", data.scored)):
        for split in splits:
            roles = used.setdefault(split.dataset, {}).setdefault(split.split, [])
            roles += [role] if role not in roles else []
    for name, splits_used in used.items():
        manifest = results.manifests.get(name)
        declared = results.profile.datasets[name]
        described = kind_of(declared).describe(declared)
        sizes = {split: len(manifest.splits.get(split, [])) for split in splits_used} if manifest else {}
        yield Dataset(
            name=name,
            used_for=", ".join(f"{' and '.join(roles)} ({split})" for split, roles in splits_used.items()),
            pairs=", ".join(f"{split} {count}" for split, count in sizes.items()) or "not prepared here",
            digests=tuple((split, manifest.digest(split)) for split in splits_used) if manifest else (),
            source=described.source,
            licence=described.licence,
        )


def _weights(results: Results, catalogue: Catalogue) -> Iterable[Weights]:
    for name, backbone in results.profile.backbones.items():
        title = backbone_title(results.profile, name)
        if backbone.weights is None:
            yield Weights(title, "none: random weights", "", "")
            continue
        row = catalogue.weights.get(backbone.weights)
        path = row.path if row else Path(backbone.weights).expanduser()
        sha256 = files.file_sha256(path) if path.is_file() else "missing when this page was made"
        yield Weights(
            title, path.name, sha256, row.licence if row else "as this project" if _ours(path) else "not stated"
        )


def _ours(path: Path) -> bool:
    """Return whether the weights come with this project."""
    return path.parts[:2] == ("resources", "demo")
