"""Ask OSV about known vulnerabilities of the pins in requirements.lock, and say so where it cannot be asked.

Informs and never fails: what is found concerns a release of somebody else's, not the change under test.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".uv/bin/uv"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^\s;]+)(?P<marker> ;[^\\]*)?", re.MULTILINE)
COMMAND = (str(UV), "audit", "--preview-features", "audit-command", "--script")


def as_script(lock: str) -> str:
    """A script that depends on every pin: what `uv audit` reads instead of a lock in pip's form."""
    pins = [f"{found['name']}=={found['version']}{(found['marker'] or '').rstrip()}" for found in PIN.finditer(lock)]
    lines = ["/// script", 'requires-python = ">=3.11,<3.13"', "dependencies = ["]
    lines += [f"  {pin!r}," if '"' in pin else f'  "{pin}",' for pin in (pin.replace('"', "'") for pin in pins)]
    return "".join(f"# {line}\n" for line in [*lines, "]", "///"])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "pins.py"
        script.write_text(as_script((ROOT / "requirements.lock").read_text(encoding="utf-8")), encoding="utf-8")
        done = subprocess.run([*COMMAND, str(script)], cwd=folder, capture_output=True, text=True)
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode not in (0, 1) or any(line.startswith("error: ") for line in said):
        reason = said[-1].strip() if said else f"uv ended with {done.returncode}"
        print(f"Known vulnerabilities were NOT checked: the database cannot be asked from here ({reason})")
        return
    print("Known vulnerabilities of the pins, as OSV lists them:", *said, sep="\n")


if __name__ == "__main__":
    main()
