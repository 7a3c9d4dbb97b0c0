"""Coverage-guided fuzzing of the readers of profiles, records and manifests: one line says what is wrong, or all is well.

    python -m tests.reliability.fuzz profile -max_total_time=600

Words after the reader's name go to libFuzzer. It starts from files that are right, and keeps what reaches new code of
the readers; whatever escapes as anything but one line ends it, and the input is written to `crash-*`. atheris has wheels
for Linux on x86-64 alone, so that `test_fuzz.py` has to find what it can elsewhere.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["adaptsr", "yaml"]):
    from adaptsr.data.manifest import read_manifest
    from adaptsr.runs.records import read_record
    from tests.reliability import test_fuzz

REPOSITORY = Path(__file__).resolve().parents[2]
READERS: Mapping[str, Callable[[Path], object]] = {
    "profile": test_fuzz.planned,
    "record": read_record,
    "manifest": lambda path: read_manifest(path).digest(),
}


def sound(reader: str) -> list[bytes]:
    """Files that the reader takes."""
    if reader == "profile":
        return [path.read_bytes() for path in sorted((REPOSITORY / "config").glob("*.yaml"))]
    content = {"record": test_fuzz.RECORD.model_dump(mode="json"), "manifest": test_fuzz.MANIFEST}[reader]
    return [json.dumps(content).encode()]


def main(words: list[str]) -> None:
    reader = words[1] if len(words) > 1 else ""
    if reader not in READERS:
        raise SystemExit(f"usage: {words[0]} {' | '.join(READERS)} [libFuzzer's options]")
    with tempfile.TemporaryDirectory() as folder:
        corpus, path = Path(folder) / "corpus", Path(folder) / "file"
        corpus.mkdir()
        for number, content in enumerate(sound(reader)):
            (corpus / str(number)).write_bytes(content)

        def one(data: bytes) -> None:
            path.write_bytes(data)
            test_fuzz.says_one_line(lambda: READERS[reader](path))

        # The most memory that libFuzzer sees counts that of the process which started this one.
        atheris.Setup([words[0], str(corpus), "-rss_limit_mb=0", *words[2:]], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
