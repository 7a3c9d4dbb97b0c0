"""Parts of a matrix: some of its backbones, seeds and rows, named in words on a command line. Imports no torch."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from adaptsr.config.schema import EXTERNAL
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.runs.matrix import Matrix, Selection


class Part(NamedTuple):
    """The words that name a part, separated by commas; None names all.

    backbones, rows: names or patterns with `*`; `external` stands for the external models among the backbones. seeds:
    numbers or ranges, `1-2,5`.
    """

    backbones: str | None = None
    seeds: str | None = None
    rows: str | None = None

    @property
    def text(self) -> str:
        """The words as Snakemake takes them: `backbones=swinir seeds=1-2`."""
        return " ".join(f"{name}={words}" for name, words in self._asdict().items() if words is not None)

    @property
    def arguments(self) -> list[str]:
        """The words as commands take them: `--backbones=swinir --seeds=1-2`."""
        return [f"--{name}={words}" for name, words in self._asdict().items() if words is not None]


def take_part(matrix: Matrix, part: Part) -> Matrix:
    """Return the part of a matrix that these words name. Its runs have the names, folders and keys of the whole.

    The unadapted backbone stays with any adapted row: it is what the row is seen against, and is not trained. Raises
    `UserError` for a word that names nothing, and for rows that none of the backbones runs.
    """
    if part == Part():
        return matrix
    profile = matrix.profile
    external = [EXTERNAL] if profile.external else []
    backbones = _named("backbones", part.backbones, [*profile.backbones, *external])
    names = _named("rows", part.rows, [row.name for row in matrix.rows])
    chosen = [row for row in matrix.rows if row.name in names]
    places = {None if name == EXTERNAL else name for name in backbones}
    if not any(places.intersection(row.backbones) for row in chosen):
        there = {place or EXTERNAL for row in chosen for place in row.backbones}
        raise UserError(
            f"{part.text}: none of these rows is run on {listing(backbones)}; they are run on {listing(there)}"
        )
    adapted = any(row.trained for row in chosen)
    kept = frozenset(row.name for row in matrix.rows if row in chosen or (row.kind == "unadapted" and adapted))
    changes = {
        "backbones": {name: declared for name, declared in profile.backbones.items() if name in backbones},
        "seeds": _seeds(part.seeds, profile.seeds),
        "external": {
            name: model
            for name, model in profile.external.items()
            if EXTERNAL in backbones and f"{EXTERNAL}/{name}" in kept
        },
    }
    selection = Selection(matrix, kept, part.text)
    taken = replace(matrix, profile=profile.model_copy(update=changes), selection=selection)
    return matrix if taken.runs == matrix.runs else taken


def _named(what: str, text: str | None, names: Sequence[str]) -> list[str]:
    """Return the names that the words match, in their order."""
    if text is None:
        return list(names)
    found: set[str] = set()
    for word in text.split(","):
        matched = [name for name in names if fnmatch.fnmatchcase(name, word.strip())]
        if not matched:
            raise UserError(
                f"{what}={text}: {word!r} names none of the {what}{suggestion(word, names)}; there are {listing(names)}"
            )
        found.update(matched)
    return [name for name in names if name in found]


def _seeds(text: str | None, seeds: Sequence[int]) -> list[int]:
    if text is None:
        return list(seeds)
    found: set[int] = set()
    for word in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,18})(?:-([0-9]{1,18}))?\s*", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        matched = [seed for seed in seeds if first <= seed <= last]
        if not matched:
            raise UserError(
                f"seeds={text}: {word!r} names none of the seeds; give numbers or ranges such as 1-2 of "
                f"{', '.join(map(str, seeds))}"
            )
        found.update(matched)
    return [seed for seed in seeds if seed in found]
