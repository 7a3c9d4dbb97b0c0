"""Templates to files: HTML escaped by Jinja, Markdown and LaTeX escaped here, written whole or not at all."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import jinja2
import pandas as pd

from adaptsr.files import atomic_write

TEMPLATES = Path(__file__).parent / "templates"

TEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": "$-$",
    "\N{EN DASH}": "--",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "∞": r"$\infty$",
    "\N{MULTIPLICATION SIGN}": r"$\times$",
    "\N{GREEK SMALL LETTER ALPHA}": r"$\alpha$",
    "λ": r"$\lambda$",
    "\N{GREEK SMALL LETTER GAMMA}": r"$\gamma$",
    "≥": r"$\ge$",
    "≤": r"$\le$",
    "→": r"$\to$",
    "†": r"$\dagger$",
    "‡": r"$\ddagger$",
    "§": r"\S{}",
    "¶": r"\P{}",
    "“": "``",
    "”": "''",
    "\N{RIGHT SINGLE QUOTATION MARK}": "'",
    "…": r"\dots{}",
}
MARKDOWN = re.compile(r"([\\`*_{}\[\]#|~])")


def escape_tex(value: object) -> str:
    """Text that LaTeX sets as it stands; line breaks become spaces."""
    return "".join(TEX.get(sign, sign) for sign in " ".join(str(value).split()))


def escape_markdown(value: object) -> str:
    """Text that Markdown shows as it stands, also inside a table; line breaks become spaces."""
    plain = " ".join(str(value).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return MARKDOWN.sub(r"\\\1", plain)


@cache
def _environment(suffix: str, folder: Path = TEMPLATES) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, TEMPLATES]),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=suffix == ".html",
        finalize={".tex": escape_tex, ".md": escape_markdown}.get(suffix),
    )
    if suffix == ".tex":
        # Braces and per cent signs belong to LaTeX there.
        return environment.overlay(
            block_start_string="<%",
            block_end_string="%>",
            variable_start_string="<<",
            variable_end_string=">>",
            comment_start_string="<#",
            comment_end_string="#>",
        )
    return environment


def render(template: str, path: Path, *, folder: Path = TEMPLATES, **content: object) -> None:
    """Fill a template of `folder` or `templates/` and write it; every value is escaped for the template's kind of file."""
    write_text(path, _environment(Path(template).suffix, folder).get_template(template).render(**content))


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """A frame as CSV, eight significant digits, missing values empty."""
    write_text(path, frame.to_csv(index=False, float_format="%.8g", lineterminator="\n"))


def write_text(path: Path, text: str) -> None:
    """Write a text; a file that has it already is left alone, so that nothing made from it looks out of date."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
