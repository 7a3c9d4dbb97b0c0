"""Find a quotation in the text of a paper, whatever its line ends, hyphenation and markup of formulas."""

from __future__ import annotations

import bisect
import re

SIGNS = {
    r"\times": "\N{MULTIPLICATION SIGN}",
    r"\rightarrow": "→",
    r"\in": "∈",
    r"\sim": "~",
    r"\mathbb{R}": "\N{DOUBLE-STRUCK CAPITAL R}",
    r"\Delta": "Δ",
}
RELATIONS = "\N{MULTIPLICATION SIGN}→∈"


def plain(text: str) -> str:
    """Return a line without markup: signs for LaTeX commands, no braces or emphasis, single spaces."""
    for command, sign in SIGNS.items():
        text = re.sub(rf"{re.escape(command)}(?![A-Za-z])\s*", f"{sign} " if sign in RELATIONS else sign, text)
    text = re.sub(r"(?<!_)\*(\w[^*]*)\*", r"\1", text)
    return " ".join(re.sub(r"[$\\{}]", "", text).split())


class PaperText:
    """A paper's text and the place of each of its lines: `Abstract`, `Section 4.2`, or a caption, `Table 2`."""

    def __init__(self, text: str) -> None:
        self._starts: list[int] = []
        self._places: list[tuple[str, int]] = []
        self._text = ""
        section = place = "Abstract"
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                self._text, place = self._text.rstrip() + "\n", section
                continue
            if heading := re.match(r"(\d(?:\.\d)?) [A-Z]{3}", line):
                section = place = f"Section {heading[1]}"
            if caption := re.match(r"(?:Figure|Table) \d+(?=:)", line):
                place = caption[0]
            if re.search(r"\w- $", self._text) and line[0].islower():
                self._text = self._text[:-2]
            self._starts.append(len(self._text))
            self._places.append((place, number))
            self._text += plain(line) + " "

    def places(self, quote: str) -> list[tuple[str, int]]:
        """Return the place and the line where each occurrence of these words in one paragraph starts."""
        found = (match.start() for match in re.finditer(re.escape(plain(quote)), self._text))
        return [self._places[bisect.bisect_right(self._starts, start) - 1] for start in found]
