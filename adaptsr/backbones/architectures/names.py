"""List the architecture names that a profile may use, without importing torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from adaptsr.config.schema import AUTO


def architectures() -> list[str]:
    """Return the values of `backbones.<name>.architecture`: `edsr` (basicsr), the names of spandrel's folders, and `auto`."""
    spec = importlib.util.find_spec("spandrel")
    assert spec
    assert spec.origin
    folder = Path(spec.origin).parent / "architectures"
    return ["edsr", *sorted(path.parent.name for path in folder.glob("[!_]*/__init__.py")), AUTO]
