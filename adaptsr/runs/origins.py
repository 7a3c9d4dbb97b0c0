"""Where a run came from that was trained elsewhere: the pack it was merged from. Imports no torch."""

from __future__ import annotations

from pathlib import Path

import pydantic

from adaptsr import files

ORIGIN = "origin.json"


class RunOrigin(pydantic.BaseModel):
    """`origin.json` of a merged run. pack: name of its file. by: who made it, or empty. weights: whether it has them."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    pack: str
    by: str
    weights: bool


def origin_of(folder: Path) -> RunOrigin | None:
    """Read where the run in this folder came from; None if it was trained here."""
    path = folder / ORIGIN
    if not path.is_file():
        return None
    content = files.read_json(path, "where a merged run came from")
    return files.validated(RunOrigin, content, f"{path}: not the origin of a merged run", "merge its pack again")


def without_weights(folder: Path) -> bool:
    """Return whether this is a record that was merged without its weights: it counts for scores and reports alone."""
    origin = origin_of(folder)
    return origin is not None and not origin.weights
