"""Import single modules of basicsr 1.4.2, which fails to import as a whole.

`data.degradations` imports `torchvision.transforms.functional_tensor`, which torchvision removed in 0.17. And every
package imports all its modules, so that one architecture costs some 80 of them. This module registers the packages in
`sys.modules` without running them. A stand-in replaces the removed module; it finds its one function in the current
torchvision when first called.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

_PACKAGES = ("archs", "data", "losses", "metrics", "models", "ops", "utils")

# Names that basicsr's modules import from a package, each with the module of that package that defines it.
_REEXPORTED = {"utils": {"bgr2ycbcr": "color_util", "get_root_logger": "logger"}}

_REMOVED_MODULE = "torchvision.transforms.functional_tensor"

_lock = threading.RLock()


def basicsr_module(leaf: str) -> ModuleType:
    """Import `basicsr.<leaf>`, such as `data.degradations`, without running basicsr's packages.

    Thread-safe; repeated calls return the same module. Uses basicsr as it is if it is already imported as a whole.
    Restores numpy's error settings, which basicsr changes on import.
    """
    import numpy as np

    with _lock:
        _enter_packages()
        sys.modules.setdefault(_REMOVED_MODULE, _functional_tensor())
        with np.errstate():
            return importlib.import_module(f"basicsr.{leaf}")


def _enter_packages() -> None:
    if "basicsr" in sys.modules:
        return
    spec = importlib.util.find_spec("basicsr")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("basicsr is not installed; install the packages of requirements.lock")
    folder = Path(spec.submodule_search_locations[0])
    root = _unrun_package("basicsr", folder)
    for name in _PACKAGES:
        package = _unrun_package(f"basicsr.{name}", folder / name)
        if name in _REEXPORTED:
            package.__getattr__ = _reexport(package.__name__, _REEXPORTED[name])  # type: ignore[method-assign]
        setattr(root, name, package)
        sys.modules[package.__name__] = package
    sys.modules["basicsr"] = root


def _unrun_package(name: str, folder: Path) -> ModuleType:
    spec = ModuleSpec(name, loader=None, is_package=True)
    spec.submodule_search_locations = [str(folder)]
    return importlib.util.module_from_spec(spec)


def _reexport(package: str, home: dict[str, str]) -> Callable[[str], Any]:
    def find(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(f"{package}.{home[name]}"), name)

    return find


def _functional_tensor() -> ModuleType:
    def rgb_to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
        # Imported late: torchvision takes seconds to import, and few callers need it.
        from torchvision.transforms.functional import rgb_to_grayscale as convert

        return convert(img, num_output_channels)

    module = ModuleType(_REMOVED_MODULE, "Stand-in for a module that torchvision removed.")
    module.rgb_to_grayscale = rgb_to_grayscale  # type: ignore[attr-defined]
    return module
