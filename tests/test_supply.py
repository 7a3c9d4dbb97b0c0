"""What comes from elsewhere is what it was: pinned with hashes, checked by size and checksum or recorded at first sight.

Any Python leads to the pinned environment.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from adaptsr.data.catalogue import read_catalogue
from tests.factories import PROJECT

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
STUB = """#!/bin/sh
case "$*" in
    -c*) exit {status};;
    -m\\ venv*) mkdir -p .uv/bin; cp "$0" .uv/bin/python;;
    -m\\ pip*) echo {name} "$@" > .uv/bin/uv;;
esac
"""
"""A Python that fits (status 0) or does not, and tells in `.uv/bin/uv` who was asked to install uv, and how."""


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


def project(repository: Path) -> dict[str, Any]:
    content: dict[str, Any] = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    return content


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^A-Za-z0-9_.-]", text)[0].lower().replace("_", "-") for text in requirements}


def test_the_lock_has_what_the_project_declares(repository: Path) -> None:
    declared = project(repository)
    every = [
        *declared["dependencies"],
        *(name for extra in declared["optional-dependencies"].values() for name in extra),
    ]
    assert names(every) <= names(pins(repository))


def test_the_core_is_what_the_library_imports(repository: Path) -> None:
    """`make env` is enough for everything but two doors, which name the extra."""
    owners = packages_distributions()
    core = names(project(repository)["dependencies"])
    undeclared = set()
    for path in (path for folder in PROJECT for path in (repository / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
            tops = {module.split(".")[0] for module in modules} - sys.stdlib_module_names - {*PROJECT}
            undeclared |= {top for top in tops if not names(owners.get(top, [])) & core}
    assert undeclared == {"onnxruntime", "peft"}


# Installing


@pytest.fixture
def bare(repository: Path, tmp_path: Path) -> Path:
    """What `make env` reads, on a machine with make and no Python: `python` adds some."""
    for name in ("Makefile", "pyproject.toml", "requirements.lock"):
        shutil.copy(repository / name, tmp_path)
    (tmp_path / "bin").mkdir()
    for tool in ("make", "sh", "sed", "touch", "mkdir", "cp"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    return tmp_path


def make(bare: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Nothing of a `make test` around this one may reach it."""
    environment = {"PATH": str(bare / "bin")}
    return subprocess.run(["make", *arguments], cwd=bare, env=environment, capture_output=True, text=True)


def python(bare: Path, name: str, status: int) -> None:
    path = bare / "bin" / name
    path.write_text(STUB.format(name=name, status=status))
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("pythons", "named", "taken"),
    [
        ({"python3": 0, "python3.12": 0}, "", "python3"),
        ({"python3": 1, "python3.9": 0}, "", "python3.9"),
        ({"python": 0}, "", "python"),
        ({"python3": 0, "mine": 0}, "mine", "mine"),
        ({"python3": 0}, "3.12", "python3"),
    ],
)
def test_any_python_installs_uv_by_its_hashes(bare: Path, pythons: dict[str, int], named: str, taken: str) -> None:
    for name, status in pythons.items():
        python(bare, name, status)
    done = make(bare, ".uv/bin/uv", f"PYTHON={named}")
    assert done.returncode == 0, done.stderr
    said = (bare / ".uv/bin/uv").read_text()
    assert said.split()[0] == taken
    assert "--require-hashes -r .uv/uv.lock" in said
    lock = (bare / ".uv/uv.lock").read_text()
    assert lock.startswith("uv==")
    assert len(HASH.findall(lock)) == len(lock.splitlines()) - 1 > 10


def test_a_machine_without_a_fitting_python_says_what_it_needs(bare: Path) -> None:
    python(bare, "python3", 1)
    done = make(bare, "env")
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == (
        "make: Python 3.8 or newer with its module venv was expected; install it, or name it: make PYTHON=/path/to/python3"
    )


def test_everything_is_installed_from_the_lock_by_its_hashes(bare: Path) -> None:
    """The core is resolved among the lock's pins; nothing but the project itself is installed without a hash."""
    installs = [line for line in make(bare, "-n", "extras").stdout.splitlines() if " pip install " in line]
    core, itself, extras = [line for line in installs if "/uv.lock" not in line]
    assert "--require-hashes -r .venv/core.txt --constraint requirements.lock" in core
    assert itself.endswith("--no-deps --no-build-isolation -e .")
    assert extras.endswith("--require-hashes -r requirements.lock")


def test_the_image_has_what_the_demo_needs(repository: Path) -> None:
    """The Dockerfile is made of known instructions, copies files that exist, and calls targets of the Makefile."""
    text = re.sub(r"^#.*\n|\\\n", "", (repository / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = [line.split() for line in text.splitlines() if line.strip()]
    assert lines[0][0] == "FROM"
    assert {line[0] for line in lines} <= {"FROM", "RUN", "WORKDIR", "COPY", "ENV", "CMD"}
    copied = [source for line in lines if line[0] == "COPY" for source in line[1:-1]]
    assert {*PROJECT, "Makefile", "pyproject.toml", "requirements.lock"} <= {*copied}
    assert [source for source in copied if not (repository / source).exists()] == []
    for line in lines:
        if line[0] == "COPY" and line[-1] != "./":
            assert line[1:] == [line[1]] * 2, "a folder keeps its name"
    phony = re.search(r"^\.PHONY: (.*)$", (repository / "Makefile").read_text(), re.MULTILINE)
    assert phony
    targets = set(re.findall(r"make\W+(\w+)$|make\W+(\w+)\W+$", text, re.MULTILINE))
    assert {"".join(found) for found in targets} == {"env", "all"} <= set(phony[1].split())


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
