"""Remove Snakemake's lock on this folder where the process that held it is gone (it was killed), and say so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil


def running_here() -> list[int]:
    """Snakemake processes that work in this folder."""
    here = Path.cwd()
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        words = process.info["cmdline"] or []
        try:
            if any(Path(word).name == "snakemake" for word in words[:3]) and Path(process.cwd()) == here:
                found.append(process.info["pid"])
        except psutil.Error:
            continue
    return found


def main() -> int:
    locks = Path(".snakemake/locks")
    if not locks.is_dir() or not any(locks.iterdir()):
        return 0
    running = running_here()
    if running:
        print(
            f"This folder is in use by another snakemake (process {running[0]}); wait for it or stop it.",
            file=sys.stderr,
        )
        return 1
    print("A snakemake that was killed has left its lock on this folder; removing it and going on.", file=sys.stderr)
    return subprocess.run([str(Path(sys.executable).with_name("snakemake")), "--unlock", "--quiet"]).returncode


if __name__ == "__main__":
    sys.exit(main())
