"""Fill templates and write the result atomically. Jinja escapes HTML; this module escapes Markdown and LaTeX."""

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
    """Escape a text so that LaTeX prints it literally; line breaks become spaces."""
    return "".join(TEX.get(sign, sign) for sign in " ".join(str(value).split()))


def escape_markdown(value: object) -> str:
    """Escape a text so that Markdown shows it literally, in tables too; line breaks become spaces."""
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
        # LaTeX itself uses braces and per cent signs.
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
    """Fill a template of `folder`, or else of `templates/`, and write it to `path`.

    Every value is escaped for the kind of file that the template's suffix names.
    """
    write_text(path, _environment(Path(template).suffix, folder).get_template(template).render(**content))


def write_frame(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV, with eight significant digits and empty missing values."""
    write_text(path, frame.to_csv(index=False, float_format="%.8g", lineterminator="\n"))


def write_text(path: Path, text: str) -> None:
    """Write a text, unless the file holds it already: a new time stamp would make its dependents look out of date."""
    content = text.encode()
    if path.is_file() and path.read_bytes() == content:
        return
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
