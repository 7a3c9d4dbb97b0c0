"""Write a pack: the finished runs of a profile with their scores, without images. Unpacked, it is a results folder."""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import pydantic
from pydantic import Field

from adaptsr import files
from adaptsr.data.manifest import MANIFEST, Manifest, read_manifest
from adaptsr.data.unpack import Refused, extract, reading
from adaptsr.errors import UserError
from adaptsr.runs.loading import damage
from adaptsr.runs.matrix import Matrix
from adaptsr.runs.origins import without_weights
from adaptsr.runs.records import RunRecord, read_record
from adaptsr.runs.run import Run
from adaptsr.scoring.sources import checked_record
from adaptsr.scoring.table import kept_path, read_kept

SCHEMA = 1
ABOUT = "pack.json"
WEIGHTS = "adaptation.safetensors"
PLAN = ("plan.json", "plan.safetensors")
EPOCH = (1980, 1, 1, 0, 0, 0)
"""A fixed time in the archive: the same runs give the same bytes."""
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=,+-]*(/[A-Za-z0-9][A-Za-z0-9_.=,+-]*){0,8}")


class About(pydantic.BaseModel):
    """`pack.json`: who made the pack, its runs with their keys, and the SHA-256 of every other file."""

    model_config = pydantic.ConfigDict(extra="forbid", populate_by_name=True)

    schema_number: int = Field(SCHEMA, alias="schema")
    profile: str
    protocol: int
    by: str
    runs: dict[str, str]
    sha256: dict[str, str]


def write_pack(matrix: Matrix, out: Path, *, weights: bool = True, by: str = "") -> About:
    """Pack what is finished of a matrix, runs and choices of tuning, as a zip; the same runs give the same bytes.

    weights: whether adaptations are packed. by: who made them, for reports. Raises `UserError` if nothing is finished, or
    if the files of a run are not those that its record names.
    """
    digests: dict[str, str] = {}
    contents: dict[str, Callable[[], bytes]] = {}
    runs: dict[str, str] = {}
    for name, path in _files(matrix, weights, runs):
        contents[name] = path.read_bytes
        digests[name] = files.file_sha256(path)
    if not runs and not matrix.made_choices():
        raise UserError(f"{matrix.results}: no finished run of {matrix.source}; run snakemake with this profile first")
    for name, content in _derived(matrix).items():
        text = files.json_text(content).encode()
        contents[name] = lambda text=text: text  # type: ignore[misc]
        digests[name] = hashlib.sha256(text).hexdigest()
    profile = matrix.profile
    about = About(profile=profile.name, protocol=profile.protocol, by=by, runs=runs, sha256=digests)
    contents[ABOUT] = lambda: files.json_text(about.model_dump(mode="json", by_alias=True)).encode()
    with files.atomic_write(out) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(contents):
            entry = zipfile.ZipInfo(name, EPOCH)
            small = name.endswith((".json", PLAN[1]))  # half of a mask's indices are zero bytes; weights are noise
            entry.compress_type = zipfile.ZIP_DEFLATED if small else zipfile.ZIP_STORED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, contents[name]())
    return about


def _files(matrix: Matrix, weights: bool, runs: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """Yield the files of all finished runs by their place in a pack, and note the key of each run in `runs`."""
    matches = matrix.matches()
    digests = {test.dataset: read_manifest(matrix.manifest(test.dataset)).digest(test.split) for test in matrix.tests}
    for run in matrix.runs:
        folder = run.folder(matrix.results)
        try:
            record = checked_record(matrix, run, matches)
        except UserError:  # not finished, or of another key
            continue
        if record is not None:
            if problem := damage(folder, record):
                raise UserError(f"{problem}; run snakemake, which trains the run again")
            runs[run.name] = record.key
            names = ["record.json", *PLAN, *([WEIGHTS] if weights and not without_weights(folder) else [])]
            yield from ((f"{run.name}/{name}", folder / name) for name in names if (folder / name).is_file())
        for dataset, images in digests.items():
            path = kept_path(folder, dataset)
            if read_kept(path, record.result_key if record else None, images) is not None:
                yield f"{run.name}/scores/{path.name}", path


def _derived(matrix: Matrix) -> dict[str, Any]:
    """Return what a pack holds besides runs: choices of tuning and the manifests of test datasets, without paths."""
    found = {choice_place(*place): choice.model_dump(mode="json") for place, choice in matrix.made_choices().items()}
    for test in matrix.tests:
        manifest = read_manifest(matrix.manifest(test.dataset))
        splits = {
            split: [item.model_copy(update={"lr": "", "hr": ""}) for item in items]
            for split, items in manifest.splits.items()
        }
        named = manifest.model_copy(update={"splits": splits})
        found[f"manifests/{test.dataset}/{MANIFEST}"] = named.model_dump(mode="json")
    return found


def choice_place(backbone: str, row: str) -> str:
    """Return the place of a choice below a results folder."""
    return f"tuning/choices/{backbone}/{row}.json"


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Yield a temporary folder, named as the pack, with its files."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary) / archive.stem
        unpack_pack(archive, folder)
        with named_by_pack(archive, folder):
            yield folder


@contextmanager
def named_by_pack(archive: Path, folder: Path) -> Iterator[None]:
    """Let a `UserError` name a file of an unpacked pack by the pack: the user never sees the folder that held it."""
    try:
        yield
    except UserError as error:
        text = str(error)
        if f"{folder}/" not in text:
            raise
        raise type(error)(text.replace(f"{folder}/", f"{archive}: ")) from error


def unpack_pack(archive: Path, folder: Path) -> About:
    """Write the files of a pack below `folder`, which must not exist, and return what it says about itself.

    Raises `UserError` for an archive that is harmful, torn, or not a pack, and for files other than those that it lists.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; expected a pack, made by `adaptsr results pack`")
    folder.mkdir(parents=True)
    found: set[str] = set()
    with reading(archive, folder) as members:
        for member in members:
            if not SAFE_NAME.fullmatch(member.path) or PurePosixPath(member.path).as_posix() != member.path:
                raise Refused(f"{member.path[:200]!a}: not a name of a file of a pack")
            extract(member, folder / member.path)
            found.add(member.path)
    about = about_of(folder, str(archive))
    for name in sorted(found.symmetric_difference({*about.sha256, ABOUT})):
        raise UserError(f"{archive}: {name} is {'not listed' if name in found else 'missing'}; get this pack again")
    for name, sha256 in about.sha256.items():
        if files.file_sha256(folder / name) != sha256:
            raise UserError(f"{archive}: {name} differs from its checksum; get this pack again")
    return about


def about_of(folder: Path, named: str) -> About:
    """Read what an unpacked pack says about itself. Raises `UserError`, which calls it `named`, if that is missing or newer."""
    if not (folder / ABOUT).is_file():
        raise UserError(f"{named}: not a pack: it has no {ABOUT}; make one with `adaptsr results pack`")
    content = files.read_json(folder / ABOUT, "what a pack says about itself")
    number = content.get("schema", SCHEMA)
    if isinstance(number, int) and number > SCHEMA:
        raise UserError(f"{named}: a pack of schema {number}, this code reads up to {SCHEMA}; update adaptsr")
    return files.validated(About, content, f"{named}: {ABOUT}", "get this pack again")


def manifests_of(folder: Path, names: Mapping[str, Any]) -> dict[str, Manifest]:
    """Read the copies of manifests in a results folder, as far as it has those of `names`."""
    paths = {name: folder / "manifests" / name / MANIFEST for name in names}
    return {name: read_manifest(path) for name, path in paths.items() if path.is_file()}


def records_of(matrix: Matrix, folder: Path) -> dict[Run, RunRecord]:
    """Read the records of a matrix's runs that a folder has."""
    paths = {run: run.record_path(folder) for run in matrix.runs if run.trained}
    return {run: read_record(path) for run, path in paths.items() if path.is_file()}
