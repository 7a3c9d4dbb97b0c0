"""`adaptsr merge`: what comes out is a checkpoint of the original architecture that other software loads."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import spandrel
import torch

from adaptsr.basicsr_compat import basicsr_module
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow
ROW = "lora/r1"


@pytest.fixture(scope="module")
def trained(workspace: Workspace, repository: Path) -> Workspace:
    """One run on SAFMN and one on EDSR."""
    content = workspace.profile()
    content["backbones"]["edsr"] = {
        "architecture": "edsr",
        "options": {"num_feat": 32, "num_block": 4},
        "weights": "resources/demo/edsr.safetensors",
    }
    workspace.write_profile(content)
    prepared = workspace.adaptsr("data", "prepare", "degraded")
    assert prepared.returncode == 0, prepared.stderr
    for backbone in ("safmn", "edsr"):
        done = workspace.adaptsr("train", "--backbone", backbone, "--variant", ROW, "--seeds", "1")
        assert done.returncode == 0, done.stderr
    return workspace


def merged(workspace: Workspace, backbone: str, name: str) -> Path:
    out = workspace.root / name
    done = workspace.adaptsr("merge", f"results/demo/{backbone}/{ROW}/seed1", "-o", str(out))
    assert done.returncode == 0, done.stderr
    return out


def test_spandrel_loads_it_and_it_is_not_the_backbone(trained: Workspace) -> None:
    checkpoint = merged(trained, "safmn", "adapted.safetensors")
    adapted = spandrel.ModelLoader().load_from_file(checkpoint)
    backbone = spandrel.ModelLoader().load_from_file(trained.root / "resources/demo/safmn.safetensors")
    assert adapted.architecture.id == "SAFMN"
    assert list(safetensors.torch.load_file(checkpoint)) == list(
        safetensors.torch.load_file(trained.root / "resources/demo/safmn.safetensors")
    )
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(adapted(lr), backbone(lr), atol=1e-6)


def test_basicsr_loads_edsr_with_the_same_output_in_both_formats(trained: Workspace) -> None:
    lr = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    outputs = []
    for name in ("edsr.safetensors", "edsr.pth"):
        path = merged(trained, "edsr", name)
        state = (
            torch.load(path, weights_only=True)["params"]
            if path.suffix == ".pth"
            else safetensors.torch.load_file(path)
        )
        model = basicsr_module("archs.edsr_arch").EDSR(3, 3, num_feat=32, num_block=4, upscale=4)
        model.load_state_dict(state, strict=True)
        with torch.no_grad():
            outputs.append(model.eval()(lr))
    assert torch.equal(outputs[0], outputs[1])
