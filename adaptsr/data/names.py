"""Compare the names of image files across systems, cameras and data sets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

_SYSTEM = re.compile(
    r"\..*|thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|icon\r|picasa\.ini|@eadir|__macosx|#recycle|\$recycle\.bin"
    r"|system volume information|lost\+found|network trash folder|temporary items",
    re.IGNORECASE,
)
_SUFFIXES = re.compile(
    r"([ _.-]+(lr|hr|sr|gt|lq|hq|out|restored|bicubic)([ _-]?x?[1-8])?|([ _.-]+|(?<=\d))x[1-8][mdw]?)+$"
)
"""What data sets and programs add to a name: `_LR4`, `_HR`, `_gt`, `x4`, `x4m`, `_x2_SR`, `_out`."""


def is_system_file(name: str) -> bool:
    """Say whether a system puts files or folders of this name beside images, or hides them: `.DS_Store`, `Thumbs.db`."""
    return bool(_SYSTEM.fullmatch(name))


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _composed(_composed(name).casefold())


def _base(name: str) -> str:
    folded = _folded(name)
    return _SUFFIXES.sub("", folded) or folded


_FORMS: Mapping[str, Callable[[str], str]] = {
    "": str,
    "Unicode form": _composed,
    "upper and lower case": _folded,
    "suffix": _base,
}


@dataclass(frozen=True)
class MatchedNames:
    """Pairs of names, and for every difference that was overlooked (`suffix`, ...) the pairs that have it."""

    pairs: Mapping[str, str]
    differing: Mapping[str, Mapping[str, str]]


def match_stems(ones: Collection[str], others: Collection[str]) -> MatchedNames:
    """Match equal names, then those that differ in Unicode form, then in case, then in the usual suffixes.

    A name that could belong to several others by such a difference stays alone.
    """
    pairs: dict[str, str] = {}
    differing = {}
    for difference, form in _FORMS.items():
        free, available = (
            _by_form([name for name in names if name not in taken], form)
            for names, taken in ((ones, pairs.keys()), (others, set(pairs.values())))
        )
        found = {
            names[0]: available[key][0]
            for key, names in free.items()
            if len(names) == 1 and len(available.get(key, [])) == 1
        }
        pairs |= found
        if difference and found:
            differing[difference] = found
    return MatchedNames(pairs, differing)


def _by_form(names: Collection[str], form: Callable[[str], str]) -> dict[str, list[str]]:
    by_form: dict[str, list[str]] = {}
    for name in names:
        by_form.setdefault(form(name), []).append(name)
    return by_form
