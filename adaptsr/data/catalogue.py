"""What can be fetched: the tables `archives.tsv`, `datasets.tsv` and `weights.tsv` of `config/`.

An archive or a weights file is one file to fetch; a dataset is made of images that lie in one or more archives.
Importing this module costs no torch: the workflow parses with it.
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
        raise ValueError("`<archive>:<path>` was expected, with {name} once, in the last part of the path")
    if not re.search(r"\.[a-z]+$", pattern):
        raise ValueError("the path has to end in the images' suffix, such as .png")
    return cell


Address = Annotated[str, Field(pattern=r"^https?://[^\s|]+$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.()+-]*$")]
Checksum = Annotated[str, Field(pattern=r"^(sha256:[0-9a-f]{8,64}|md5:[0-9a-f]{32})$")]
ImagesCell = Annotated[str, pydantic.AfterValidator(_check_images)]


class Source(Section):
    """A row of `archives.tsv` or `weights.tsv`: one file, where it comes from and how it is told from another."""

    folder: ClassVar[Path]

    name: Name = Field(description="names the row; no other row of any table has it")
    version: str = Field(description="what the publisher calls this version, or the date or commit of the release")
    file: FileName = Field(description="name under which the file is kept")
    address: Address = Field(description="where it is fetched; with `fetch: manual`, the page that leads to it")
    mirrors: Annotated[tuple[Address, ...], pydantic.BeforeValidator(_split_mirrors)] = Field(
        (), description="addresses of the same bytes, tried in turn, separated by `|`"
    )
    bytes: PositiveInt | None = Field(None, description="size; empty where it is not published")
    checksum: Checksum | None = Field(
        None,
        description="`sha256:` or `md5:` and the digits; a SHA-256 may be cut to the digits that are published; without one the first file seen is recorded and a later difference is an error",
    )
    licence: str = Field(description="licence of the content")
    fetch: Literal["http", "gdrive", "manual"] = Field(
        description="`http`, `gdrive` (Google Drive, with its confirmation page), or `manual`: only a person can get it"
    )
    note: str = Field("", description="what else a user should know")

    @property
    def path(self) -> Path:
        """Where the file lies, or will lie, below the working folder."""
        return self.folder / self.file

    @property
    def fully_published(self) -> bool:
        """Whether the published checksum alone tells this file from any other."""
        return self.checksum is not None and len(self.checksum) in (len("sha256:") + 64, len("md5:") + 32)


class ArchiveFile(Source):
    folder: ClassVar[Path] = RESOURCES / "archives"


class WeightsFile(Source):
    folder: ClassVar[Path] = RESOURCES / "weights"


@dataclass(frozen=True)
class Images:
    """Images in an archive: `pattern` is a path with `{name}` in its last part; `*` stands for any text but `/`, `**/` for any folders."""

    archive: str
    pattern: str

    @property
    def suffix(self) -> str:
        return Path(self.pattern).suffix

    def name_of(self, path: str) -> str | None:
        """The image's name if `path` is one of these images."""
        found = re.fullmatch(self._expression, path)
        return found["name"] if found else None

    @property
    def _expression(self) -> str:
        meanings = {"**/": "(?:[^/]+/)*", "*": "[^/]*", "{name}": "(?P<name>[^/]+)"}
        parts = re.split(r"(\*\*/|\*|\{name\})", self.pattern)
        return "".join(meanings.get(part, re.escape(part)) for part in parts)


class DatasetPart(Section):
    """A row of `datasets.tsv`: LR/HR pairs of one split; a dataset is all rows of its name."""

    name: Name = Field(description="names the dataset; a profile's `row`")
    scale: PositiveInt
    split: SplitName
    pairs: PositiveInt | None = Field(None, description="number of pairs; empty where it is not published")
    lr_pixels: Annotated[str, Field(pattern=r"^[1-9][0-9]*x[1-9][0-9]*$")] | None = Field(
        None,
        description="width and height of an LR image, or of a typical one, such as `510x339`; empty where it is unknown",
    )
    lr: ImagesCell = Field(description="LR images: `<archive>:<path>`, with `{name}` in the last part of the path")
    hr: ImagesCell = Field(description="HR images, likewise; LR and HR of the same `{name}` are a pair")
    degradation: Literal["bicubic"] | None = Field(
        None,
        description="empty: LR is used as it is; `bicubic`: the file of `lr` has the size of HR and is reduced by MATLAB-like bicubic",
    )
    scene: str = Field(
        "",
        description="pairs whose names agree up to this text are of one scene; empty: every pair is a scene of its own",
    )
    note: str = Field("", description="what else a user should know")

    @property
    def sides(self) -> dict[Literal["lr", "hr"], Images]:
        return {"lr": _images(self.lr), "hr": _images(self.hr)}

    @property
    def lr_area(self) -> int | None:
        """Pixels of an LR image."""
        return math.prod(int(side) for side in self.lr_pixels.split("x")) if self.lr_pixels else None

    def scene_of(self, name: str) -> str:
        return name.partition(self.scene)[0] if self.scene else name


@dataclass(frozen=True)
class Catalogue:
    """The three tables by name, in the order of their rows."""

    archives: Mapping[str, ArchiveFile]
    datasets: Mapping[str, tuple[DatasetPart, ...]]
    weights: Mapping[str, WeightsFile]

    def dataset(self, name: str) -> tuple[DatasetPart, ...]:
        """The rows of a dataset; `UserError` if there is none of this name."""
        if name not in self.datasets:
            raise UserError(
                f"config/datasets.tsv: no dataset {name!r}{suggestion(name, self.datasets)}; there are {listing(self.datasets)}"
            )
        return self.datasets[name]

    def sources(self, names: Sequence[str] = ()) -> list[Source]:
        """The files behind names of datasets, archives and weights, each once; all files for no names."""
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
    """Read and check the three tables; `UserError`, one line with file, line and column, for anything wrong."""
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
    """Where the file of a row of `weights.tsv` lies or will lie; None if there is no such row."""
    row = read_catalogue().weights.get(name)
    return row.path if row else None


def _images(cell: str) -> Images:
    archive, _, pattern = cell.partition(":")
    return Images(archive, pattern)


def _read_table(path: Path, model: type[Row]) -> list[tuple[int, Row]]:
    """The rows with their line numbers."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"{path}: cannot read this table: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path}: not a text file in UTF-8; a table with tabs between its columns was expected"
        ) from None
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
        what = f"unknown column {unknown[0]!r}" if unknown else f"no column {missing[0]!r}"
        raise UserError(f"{path}:1: {what}; the columns are {', '.join(columns)}, with tabs between them")


def _read_row(where: str, header: Sequence[str], cells: Sequence[str], model: type[Row]) -> Row:
    if len(cells) != len(header):
        raise UserError(f"{where}: {len(cells)} cells, the table has {len(header)} columns with tabs between them")
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
                raise UserError(f"{path}:{line}: {column}: {value!r} stands in line {seen[value]} already")


def _refuse_shared_names(
    datasets: set[str],
    archives: Sequence[tuple[int, Source]],
    weights: Sequence[tuple[int, Source]],
    folder: Path,
) -> None:
    names = [*datasets, *(row.name for _, row in chain(archives, weights))]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(f"{folder}: {repeated[0]!r} names rows of two tables; `adaptsr data` could not tell them apart")
