"""A headless Chromium that opens a page from disk, runs a script in it and says what came of it."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-extensions", "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000", "--enable-logging=stderr",
)  # fmt: skip
FRAME = """<!DOCTYPE html><body style="margin:0"><iframe style="border:0;width:{width}px;height:3000px" src="{page}"></iframe>
<script>addEventListener("message", (event) => document.body.setAttribute("data-result", event.data));</script></body>"""
TEMPLATE = """<script>addEventListener("load", async () => {{
  const outcome = await (async () => {{ {script} }})();
  const text = btoa(unescape(encodeURIComponent(JSON.stringify(outcome))));
  if (parent !== window) parent.postMessage(text, "*");
  document.body.setAttribute("data-result", text);
}});</script></body>"""


def find_browser() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


@dataclass(frozen=True)
class Visit:
    """What a script returned, and what the browser's console said."""

    result: Any
    console: list[str]


def visit(browser: str, page: Path, script: str, scratch: Path, width: int | None = None) -> Visit:
    """Run the body of an async function in a copy of `page`, beside it, and return what it returns.

    `width`: of the window in CSS pixels; without it a desktop's.
    """
    copy = page.with_name(f".test-{page.name}")
    code = TEMPLATE.format(script=script.replace("</", r"<\/"))
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", code), encoding="utf-8")
    address = copy.resolve().as_uri()
    if width:
        frame = scratch / "frame.html"
        frame.write_text(FRAME.format(width=width, page=address), encoding="utf-8")
        address = frame.resolve().as_uri()
    try:
        done = subprocess.run(
            [browser, *FLAGS, "--window-size=1280,1600", f"--user-data-dir={scratch / 'user'}", "--dump-dom", address],
            capture_output=True,
            text=True,
            timeout=180,
        )
    finally:
        copy.unlink()
    found = re.search(r'data-result="([^"]*)"', done.stdout)
    assert found, f"the script left no result: {done.stderr[-2000:]}"
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Visit(json.loads(base64.b64decode(found.group(1))), console)
