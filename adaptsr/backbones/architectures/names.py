"""The architecture names that a profile may use, found without importing torch."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from adaptsr.config.schema import AUTO


def architectures() -> list[str]:
    """Names that `backbones.<name>.architecture` takes: EDSR of basicsr, what spandrel has, read off its folders, and `auto`."""
    spec = importlib.util.find_spec("spandrel")
    assert spec
    assert spec.origin
    folder = Path(spec.origin).parent / "architectures"
    return ["edsr", *sorted(path.parent.name for path in folder.glob("[!_]*/__init__.py")), AUTO]
