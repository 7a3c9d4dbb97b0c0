"""The site builds offline without a warning, and what its pages link or name exists."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import pytest

from adaptsr.cli.main import _parser

FOLDERS = "adaptsr|baselines|config|docs|papers|profiles|speed|tests|workflow|resources/demo"
PATH = re.compile(rf"`((?:{FOLDERS})/[^`\s<>*{{}}]*)`")
MODULE = re.compile(r"python -m ((?:adaptsr|speed|tests)\.[\w.]+)")
COMMAND = re.compile(r"(?:^|`|&& )adaptsr ([a-z][a-z-]+)", re.MULTILINE)


class Links(HTMLParser):
    """The addresses that a page leads to, those that it loads, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.leads: set[str] = set()
        self.loads: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.leads |= {given["href"]} if "href" in given else set()
        self.loads |= {given[name] for name in ("src", "href") if name in given and tag != "a"}


@pytest.fixture(scope="module")
def site(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Links]:
    """Every page of the site, built with warnings as errors."""
    for module in ("sphinx", "myst_parser", "pydata_sphinx_theme", "sphinxarg"):
        pytest.importorskip(module, reason="the extra docs is not installed")
    out = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-q", "-c", "docs", ".", str(out)]
    done = subprocess.run([sys.executable, "-m", "sphinx", *words], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {page: Links(page) for page in out.rglob("*.html") if "_static" not in page.parts}


@pytest.mark.slow
def test_every_link_inside_the_site_leads_somewhere(site: dict[Path, Links]) -> None:
    def leads(page: Path, address: SplitResult) -> bool:
        target = (page.parent / unquote(address.path)).resolve() if address.path else page
        anchors = site[target].anchors if target in site else set()
        return target.is_file() and (not address.fragment or unquote(address.fragment) in anchors)

    inside = [
        (page, address)
        for page, links in site.items()
        for address in map(urlsplit, links.leads | links.loads)
        if not address.scheme
    ]
    assert [(page.name, address.geturl()) for page, address in inside if not leads(page, address)] == []
    assert len(inside) > 500


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: dict[Path, Links]) -> None:
    assert {address for links in site.values() for address in links.loads if urlsplit(address).netloc} == set()


def pages(repository: Path) -> Iterator[tuple[str, str]]:
    """The pages that speak of the project as it is, each with its text."""
    for path in [*repository.glob("*.md"), *repository.glob("*/README.md"), *repository.glob("docs/**/*.md")]:
        if path.name != "CHANGELOG.md":
            yield str(path.relative_to(repository)), path.read_text(encoding="utf-8")


def test_files_modules_and_commands_that_pages_name_exist(repository: Path) -> None:
    commands = next(action.choices for action in _parser()._actions if action.choices) or ()
    wrong = []
    for page, text in pages(repository):
        named = [*PATH.findall(text), *(module.replace(".", "/") for module in MODULE.findall(text))]
        wrong += [
            (page, name)
            for name in named
            if "my_" not in name
            and not any((repository / f"{name}{end}").exists() for end in ("", ".py", "/__init__.py"))
        ]
        wrong += [(page, command) for command in COMMAND.findall(text) if command not in commands]
    assert wrong == []
