"""What comes from elsewhere is what it was: pinned with hashes, checked by size and checksum or recorded at first sight."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

from adaptsr.data.catalogue import read_catalogue

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def pins(repository: Path) -> list[str]:
    """The lock's entries, each with the lines that belong to it."""
    text = (repository / "requirements.lock").read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip()]


def test_every_pin_is_exact_has_hashes_and_names_no_host(repository: Path) -> None:
    """Whoever installs from the lock asks their own index, and the hashes decide."""
    found = pins(repository)
    assert len(found) > 100
    for pin in found:
        assert re.match(r"[A-Za-z0-9_.-]+==[^\s;]+ ", pin), pin
        assert HASH.search(pin), pin
        assert not re.search(r"@|git\+|-e |file:|://|--(extra-)?index-url|--find-links|--trusted-host", pin), pin


def test_the_lock_has_what_the_project_declares(repository: Path) -> None:
    import tomllib

    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    declared = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower().replace("_", "-") for text in declared}
    locked = {pin.split("==")[0].lower().replace("_", "-") for pin in pins(repository)}
    assert names <= locked


def test_installing_demands_the_hashes(repository: Path) -> None:
    assert "--require-hashes -r requirements.lock" in (repository / "Makefile").read_text()


def test_only_what_a_person_fetches_or_records_at_first_sight_has_no_full_checksum() -> None:
    """The list is short, and a row that joins it is seen here."""
    without = {source.name for source in read_catalogue().sources() if not source.fully_published}
    assert without <= {"edsr-baseline-x4", "drealsr-train", "drealsr-test", "dped-iphone-patches", "ldl-x4"}


def audit_script(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("vulnerabilities", repository / ".ci/vulnerabilities.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_audit_asks_about_every_pin(repository: Path) -> None:
    script = audit_script(repository).as_script((repository / "requirements.lock").read_text())
    for pin in pins(repository):
        assert pin.split(" ")[0] in script
    assert script.count("==") >= len(pins(repository))


def test_the_audit_says_so_where_it_cannot_ask(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = audit_script(repository)
    monkeypatch.setattr(module, "COMMAND", ("sh", "-c", "echo 'error: dns' >&2; exit 2"))
    module.main()
    assert capsys.readouterr().out == (
        "Known vulnerabilities were NOT checked: the database cannot be asked from here (error: dns)\n"
    )
