"""Keep the few restored test images that a profile names for its report, as PNG in the folder of their run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from adaptsr import files
from adaptsr.errors import UserError, suggestion

if TYPE_CHECKING:
    import torch

FOLDER = "pictures"
LIST = "pictures.json"


class Picture(NamedTuple):
    """A test image that a profile names in `report.pictures`."""

    dataset: str
    image: str


def find_pictures(names: Sequence[str], tests: Sequence[tuple[str, Iterable[str]]]) -> list[Picture]:
    """Find the named images in the test datasets, given as (dataset, images); a name in two datasets is two pictures.

    Raises `UserError` for a name that no test dataset has.
    """
    known = [Picture(dataset, image) for dataset, images in tests for image in images]
    found = []
    for name in names:
        named = [picture for picture in known if picture.image == name]
        if not named:
            images = [picture.image for picture in known]
            raise UserError(
                f"report.pictures: no test image {name!r}{suggestion(name, images)}; "
                f"the test datasets have {len(images)}, such as {', '.join(images[:3])}"
            )
        found += named
    return list(dict.fromkeys(found))


def picture_path(run: Path, picture: Picture) -> Path:
    """Return the path of a run's restored image."""
    return run / FOLDER / picture.dataset / f"{picture.image}.png"


def pictures_of(names: Sequence[str], dataset: str, images: Iterable[str]) -> list[Picture]:
    """Return the named images that one test dataset has."""
    there = set(images)
    return [Picture(dataset, name) for name in dict.fromkeys(names) if name in there]


def kept_pictures(run: Path, dataset: str, restored: str | None = None) -> set[Picture]:
    """Return the pictures of a test dataset that a run keeps.

    restored: what they have to be restored by (`KeptScores.restored`); None for any.
    """
    path = run / FOLDER / dataset / LIST
    if not path.is_file():
        return set()
    listed = files.read_json(path, "the list of a run's pictures")
    if restored is not None and listed.get("restored") != restored:
        return set()
    pictures = {Picture(dataset, image) for image in listed["pictures"]}
    return {picture for picture in pictures if picture_path(run, picture).is_file()}


def keep_pictures(
    run: Path, dataset: str, restored: str, pictures: Sequence[Picture], restore: Callable[[Picture], torch.Tensor]
) -> None:
    """Write these pictures of a test dataset beside a run, and remove its others.

    restore: gives a picture as uint8 of shape (3, H, W).
    """
    from adaptsr.data.images import write_png

    folder = run / FOLDER / dataset
    (folder / LIST).unlink(missing_ok=True)
    wanted = {picture_path(run, picture) for picture in pictures}
    for path in set(folder.glob("*.png")) - wanted:
        path.unlink()
    for picture in pictures:
        write_png(picture_path(run, picture), restore(picture))
    files.write_json(folder / LIST, {"restored": restored, "pictures": sorted(p.image for p in pictures)})
