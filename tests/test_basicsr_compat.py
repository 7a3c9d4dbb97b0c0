"""Single modules of basicsr are importable, without side effects on the rest of the process."""

from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from adaptsr.basicsr_compat import basicsr_module

LEAVES = {
    "archs.edsr_arch": "EDSR",
    "data.degradations": "random_mixed_kernels",
    "utils.matlab_functions": "imresize",
    "utils.diffjpeg": "DiffJPEG",
    "utils.img_process_util": "USMSharp",
    "metrics.psnr_ssim": "calculate_psnr",
}


def in_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("leaf", "name"), LEAVES.items())
def test_leaf_is_importable(leaf: str, name: str) -> None:
    assert callable(getattr(basicsr_module(leaf), name))


def test_same_module_every_time() -> None:
    assert basicsr_module("utils.diffjpeg") is basicsr_module("utils.diffjpeg")


def test_unknown_leaf_is_an_import_error() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"basicsr\.archs\.no_such_arch"):
        basicsr_module("archs.no_such_arch")


def test_unknown_name_of_a_package_is_an_attribute_error() -> None:
    basicsr_module("utils.diffjpeg")
    import basicsr.utils

    with pytest.raises(AttributeError, match="no_such_name"):
        _ = basicsr.utils.no_such_name


def test_threads_get_one_module_each_fully_loaded() -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(basicsr_module("data.degradations").add_poisson_noise_pt))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


@pytest.mark.slow
def test_degradations_cost_neither_torchvision_nor_the_rest_of_basicsr() -> None:
    loaded = in_new_process(
        "import sys; from adaptsr.basicsr_compat import basicsr_module; basicsr_module('data.degradations');"
        "print(sum(m.startswith('basicsr') for m in sys.modules), 'torchvision' in sys.modules)"
    ).split()
    assert int(loaded[0]) < 12
    assert loaded[1] == "False"


@pytest.mark.slow
def test_real_torchvision_works_after_the_stub() -> None:
    code = (
        "from adaptsr.basicsr_compat import basicsr_module; basicsr_module('data.degradations');"
        "import torch, torchvision, torchvision.transforms.functional as f;"
        "from torchvision.transforms import Compose, ToTensor;"
        "print(f.rgb_to_grayscale(torch.ones(3, 2, 2)).shape[0], torchvision.ops.box_area(torch.ones(1, 4)).item())"
    )
    assert in_new_process(code) == "1 0.0"


def test_grey_conversion_of_the_stub_is_torchvisions() -> None:
    from torchvision.transforms.functional import rgb_to_grayscale

    image = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0))
    stub = basicsr_module("data.degradations").rgb_to_grayscale
    assert torch.equal(stub(image, num_output_channels=1), rgb_to_grayscale(image))


def test_numpy_error_settings_survive(monkeypatch: pytest.MonkeyPatch) -> None:
    basicsr_module("data.degradations")
    monkeypatch.delitem(sys.modules, "basicsr.data.degradations")
    with np.errstate(divide="raise", invalid="raise"):
        basicsr_module("data.degradations")
        assert np.geterr()["divide"] == "raise"
        assert np.geterr()["invalid"] == "raise"
