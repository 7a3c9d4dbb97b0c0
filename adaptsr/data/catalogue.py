"""Read the catalogue of files to fetch: the tables `archives.tsv`, `datasets.tsv` and `weights.tsv` of `config/`.

An archive or a weights file is one file to fetch; a dataset consists of images in one or more archives.
Importing this module does not import torch: the workflow parses with it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pydantic
from pydantic import Field, PositiveInt

from adaptsr.config.schema import Name, Section
from adaptsr.data.manifest import SplitName
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.project import CHECKOUT

FOLDER = CHECKOUT / "config"
RESOURCES = Path("resources")

Row = TypeVar("Row", bound=Section)


def _split_mirrors(cell: object) -> object:
    return [address.strip() for address in cell.split("|")] if isinstance(cell, str) else cell


def _check_images(cell: str) -> str:
    archive, colon, pattern = cell.partition(":")
    last = pattern.rpartition("/")[2]
    if not colon or not archive or last.count("{name}") != 1 or pattern.count("{") != 1:
        raise ValueError("expected `<archive>:<path>` with {name} once, in the last part of the path")
    if not re.search(r"\.[a-z]+$", pattern):
        raise ValueError("the path must end in the suffix of the images, such as .png")
    return cell


Address = Annotated[str, Field(pattern=r"^https?://[^\s|]+$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.()+-]*$")]
Checksum = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32})$")]
ImagesCell = Annotated[str, pydantic.AfterValidator(_check_images)]


class Source(Section):
    """A row of `archives.tsv` or `weights.tsv`: one file, its addresses and its checksum."""

    folder: ClassVar[Path]

    name: Name = Field(description="name of the row, unique over all tables")
    version: str = Field(description="the publisher's name of this version, or the date or commit of the release")
    file: FileName = Field(description="name of the file on disk")
    address: Address = Field(description="address to fetch it from; with `fetch: manual`, the page that links to it")
    mirrors: Annotated[tuple[Address, ...], pydantic.BeforeValidator(_split_mirrors)] = Field(
        (), description="other addresses of the same bytes, separated by `|`; tried in turn"
    )
    bytes: PositiveInt | None = Field(None, description="size; empty if it is not published")
    checksum: Checksum | None = Field(
        None,
        description="`sha256:` or `md5:` and the digits; a SHA-256 may be shortened to the published digits; if empty, the checksum of the first file seen is recorded and a later difference is an error",
    )
    licence: str = Field(description="licence of the content")
    fetch: Literal["http", "gdrive", "manual"] = Field(
        description="`http`, `gdrive` (Google Drive, with its confirmation page), or `manual`: needs a manual download"
    )
    note: str = Field("", description="further advice for users")

    @property
    def path(self) -> Path:
        """Return the path of the file, fetched or not, below the working folder."""
        return self.folder / self.file

    @property
    def fully_published(self) -> bool:
        """Return whether the published checksum is complete."""
        return self.checksum is not None and len(self.checksum) in (len("sha256:") + 64, len("md5:") + 32)


class ArchiveFile(Source):
    folder: ClassVar[Path] = RESOURCES / "archives"


class WeightsFile(Source):
    folder: ClassVar[Path] = RESOURCES / "weights"


@dataclass(frozen=True)
class Images:
    """Images in an archive.

    `pattern` is a path with `{name}` in its last part; `*` matches any text without `/`, `**/` any folders.
    """

    archive: str
    pattern: str

    @property
    def suffix(self) -> str:
        return Path(self.pattern).suffix

    def name_of(self, path: str) -> str | None:
        """Return the image's name if `path` is one of these images, else None."""
        found = re.fullmatch(self._expression, path)
        return found["name"] if found else None

    @property
    def _expression(self) -> str:
        meanings = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "{name}": "(?P<name>[^/]+)"}
        parts = re.split(r"(\*\*/|\*|\{name\})", self.pattern)
        return "".join(meanings.get(part, re.escape(part)) for part in parts)


class DatasetPart(Section):
    """A row of `datasets.tsv`: LR/HR pairs of one split. All rows of one name form a dataset."""

    name: Name = Field(description="name of the dataset: `row` in a profile")
    scale: PositiveInt
    split: SplitName
    pairs: PositiveInt | None = Field(None, description="number of pairs; empty if it is not published")
    lr_pixels: Annotated[str, Field(pattern=r"^[1-9][0-9]*x[1-9][0-9]*$")] | None = Field(
        None,
        description="width and height of a typical LR image, such as `510x339`; empty if unknown",
    )
    lr: ImagesCell = Field(description="LR images: `<archive>:<path>`, with `{name}` in the last part of the path")
    hr: ImagesCell = Field(description="HR images, in the same form; LR and HR with the same `{name}` are a pair")
    degradation: Literal["bicubic"] | None = Field(
        None,
        description="empty: use LR unchanged; `bicubic`: images of `lr` have the size of HR; reduce them by MATLAB-like bicubic",
    )
    scene: str = Field(
        "",
        description="pairs whose names agree up to this text form one scene; empty: every pair is its own scene",
    )
    photographs: str = Field(
        "",
        description="what the images show, such as `DIV2K 0801-0900`; rows that show the same photographs, whole or cropped, have the same; empty: photographs of no other row",
    )
    note: str = Field("", description="further advice for users")

    @property
    def sides(self) -> dict[Literal["lr", "hr"], Images]:
        return {"lr": _images(self.lr), "hr": _images(self.hr)}

    @property
    def lr_area(self) -> int | None:
        """Return the number of pixels of an LR image, or None if unknown."""
        return math.prod(int(side) for side in self.lr_pixels.split("x")) if self.lr_pixels else None

    def scene_of(self, name: str) -> str:
        return name.partition(self.scene)[0] if self.scene else name


@dataclass(frozen=True)
class Catalogue:
    """The rows of the three tables by name, in their order."""

    archives: Mapping[str, ArchiveFile]
    datasets: Mapping[str, tuple[DatasetPart, ...]]
    weights: Mapping[str, WeightsFile]

    def dataset(self, name: str) -> tuple[DatasetPart, ...]:
        """Return the rows of a dataset. Raises `UserError` if the name is unknown."""
        if name not in self.datasets:
            raise UserError(
                f"config/datasets.tsv: no dataset {name!r}{suggestion(name, self.datasets)}; there are {listing(self.datasets)}"
            )
        return self.datasets[name]

    def sources(self, names: Sequence[str] = ()) -> list[Source]:
        """Return the files of the named datasets, archives and weights, each once; default: all files."""
        if not names:
            return [*self.archives.values(), *self.weights.values()]
        return list({source.name: source for name in names for source in self._sources_of(name)}.values())

    def archives_of(self, dataset: str) -> list[ArchiveFile]:
        cells = [images.archive for part in self.dataset(dataset) for images in part.sides.values()]
        return [self.archives[name] for name in dict.fromkeys(cells)]

    def _sources_of(self, name: str) -> Sequence[Source]:
        if name in self.datasets:
            return self.archives_of(name)
        known: dict[str, Source] = {**self.archives, **self.weights}
        if name not in known:
            every = [*self.datasets, *known]
            raise UserError(
                f"{name}: no dataset, archive or weights of this name{suggestion(name, every)}; there are {listing(every)}"
            )
        return [known[name]]


def read_catalogue(folder: Path | None = None) -> Catalogue:
    """Read and check the three tables. Raises `UserError`, with file, line and column, for the first mistake."""
    folder = folder or FOLDER
    archives = _read_table(folder / "archives.tsv", ArchiveFile)
    weights = _read_table(folder / "weights.tsv", WeightsFile)
    parts = _read_table(folder / "datasets.tsv", DatasetPart)
    datasets: dict[str, list[DatasetPart]] = {}
    for line, part in parts:
        where = f"{folder / 'datasets.tsv'}:{line}"
        _check_part(part, datasets.setdefault(part.name, []), {row.name for _, row in archives}, where)
        datasets[part.name].append(part)
    for path, rows in (("archives.tsv", archives), ("weights.tsv", weights)):
        _refuse_repeated(folder / path, rows)
    _refuse_shared_names(set(datasets), archives, weights, folder)
    return Catalogue(
        archives={row.name: row for _, row in archives},
        datasets={name: tuple(rows) for name, rows in datasets.items()},
        weights={row.name: row for _, row in weights},
    )


def weights_file(name: str) -> Path | None:
    """Return the path of a row of `weights.tsv`, fetched or not, or None if there is no such row."""
    row = read_catalogue().weights.get(name)
    return row.path if row else None


def _images(cell: str) -> Images:
    archive, _, pattern = cell.partition(":")
    return Images(archive, pattern)


def _read_table(path: Path, model: type[Row]) -> list[tuple[int, Row]]:
    """Return the rows of a table with their line numbers."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot read this table: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file in UTF-8; expected a table with tabs between its columns") from None
    lines = csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    header = next(lines, [])
    _check_header(path, header, list(model.model_fields))
    return [(number, _read_row(f"{path}:{number}", header, cells, model)) for number, cells in _numbered(lines)]


def _numbered(lines: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((number, cells) for number, cells in enumerate(lines, start=2) if any(cell.strip() for cell in cells))


def _check_header(path: Path, header: Sequence[str], columns: Sequence[str]) -> None:
    unknown = [column for column in header if column not in columns]
    missing = [column for column in columns if column not in header]
    if unknown or missing:
        what = f"unknown column {unknown[0]!r}" if unknown else f"missing column {missing[0]!r}"
        raise UserError(f"{path}:1: {what}; expected the columns {', '.join(columns)}, with tabs between them")


def _read_row(where: str, header: Sequence[str], cells: Sequence[str], model: type[Row]) -> Row:
    if len(cells) != len(header):
        raise UserError(f"{where}: found {len(cells)} cells, expected {len(header)} with tabs between them")
    content: dict[str, Any] = {column: cell.strip() for column, cell in zip(header, cells, strict=True) if cell.strip()}
    try:
        return model.model_validate(content)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        message = "this cell is empty" if first["type"] == "missing" else first["msg"].removeprefix("Value error, ")
        found = "" if first["type"] == "missing" else f", found {first['input']!r}"
        raise UserError(f"{where}: {first['loc'][0]}: {message}{found}") from None


def _check_part(part: DatasetPart, others: Sequence[DatasetPart], archives: set[str], where: str) -> None:
    for side, images in part.sides.items():
        if images.archive not in archives:
            raise UserError(
                f"{where}: {side}: no archive {images.archive!r} in archives.tsv{suggestion(images.archive, archives)}"
            )
    for other in others:
        shared = ("scale", "degradation", "scene") if other.split == part.split else ("scale",)
        for column in shared:
            if getattr(other, column) != getattr(part, column):
                raise UserError(
                    f"{where}: {column}: {getattr(part, column)!r} differs from {getattr(other, column)!r} in another row of "
                    f"{part.name}"
                )


def _refuse_repeated(path: Path, rows: Sequence[tuple[int, Source]]) -> None:
    for column in ("name", "file"):
        seen: dict[str, int] = {}
        for line, row in rows:
            value = getattr(row, column)
            if seen.setdefault(value, line) != line:
                raise UserError(f"{path}:{line}: {column}: {value!r} is already in line {seen[value]}")


def _refuse_shared_names(
    datasets: set[str],
    archives: Sequence[tuple[int, Source]],
    weights: Sequence[tuple[int, Source]],
    folder: Path,
) -> None:
    names = [*datasets, *(row.name for _, row in chain(archives, weights))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{folder}: {repeated[0]!r} is used twice; names must be unique over all tables")
