"""Names and titles that mean something to a shell, to Snakemake or in HTML go through the whole workflow as they are."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.factories import HOSTILE_NAMES, write_pairs
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow

FOLDER = (
    """it's "$(touch executed)" `touch executed`; touch executed & {name} {output} <img src=x onerror=alert(1)> -rf"""
)
MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(1)> $(touch executed) {name} %s"


class Page(HTMLParser):
    """What of a page would act."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.acting: list[str] = []
        self._in_script = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        self.acting += [f"{tag} {name}" for name, _ in attrs if name == "onerror"]

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script and "alert(1)" in data and not data.lstrip().startswith(("{", "[")):
            self.acting.append("script")


def test_a_page_that_would_act_is_found() -> None:
    assert Page(MARKUP).acting == ["script", "img onerror"]


def test_the_whole_workflow(workspace: Workspace) -> None:
    root = workspace.root
    folder = root / FOLDER
    write_pairs(folder, HOSTILE_NAMES)
    content = workspace.profile()
    content["title"] = MARKUP
    content["datasets"] = {
        "camera": {
            "kind": "pairs",
            "lr": "${data}/lr",
            "hr": "${data}/hr",
            "split": {"train": "rest", "validation": "first 1", "test": "last 16"},
        }
    }
    camera = {"dataset": "camera", "split": "train"}
    content["data"] = {
        "train": [camera],
        "validation": {**camera, "split": "validation"},
        "test": [{**camera, "split": "test"}],
    }
    content["seeds"] = [1]
    content["backbones"]["safmn"]["title"] = MARKUP
    content["baselines"]["full_finetuning"]["rows"] = []
    content["baselines"]["lora"] = {"variants": {"x": {"rank": 1, "title": MARKUP}}}
    tested = sorted(HOSTILE_NAMES)[-16:]
    shown = [name for name in tested if "<" in name or "'" in name or '"' in name]
    content["report"] = {
        "note": MARKUP,
        "pictures": shown,
        "tables": {"table2": {"title": MARKUP, "rows": ["unadapted", "lora/*"]}},
        "comparisons": [{"title": MARKUP, "rows": ["lora/x"], "compared_with": "unadapted"}],
    }
    workspace.write_profile(content)
    done = workspace.snakemake("--cores", "1", "all", "--config", f"data={folder}")
    assert done.returncode == 0, done.stdout[-3000:]
    assert not list(root.rglob("executed"))
    pages = list((root / "reports/demo").rglob("*.html"))
    assert len(pages) >= 2
    for page in pages:
        assert Page(page.read_text()).acting == [], page
    kept = {path.stem for path in (root / "results/demo/safmn/lora/x/seed1/pictures/camera").glob("*.png")}
    assert kept == set(shown)
    assert {path.name for path in Path(root).iterdir()} >= {FOLDER}
