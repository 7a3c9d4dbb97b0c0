"""Every architecture of spandrel works, or docs/architectures.md says why not."""

from __future__ import annotations

import pytest
import spandrel

from adaptsr.backbones.architectures.names import architectures
from adaptsr.backbones.inference import restore
from adaptsr.config.schema import AUTO
from adaptsr.errors import UserError
from tests.backbones.every_architecture import NOT_SMALL, PAGE, SMALL, backbone, page, saved
from tests.backbones.helpers import image

pytestmark = pytest.mark.slow


def test_none_is_left_out() -> None:
    listed = {small.folder or name for name, small in SMALL.items()} | set(NOT_SMALL)
    assert listed == set(architectures()) - {"edsr", AUTO}


@pytest.mark.parametrize("name", SMALL)
def test_odd_sizes_are_restored_as_spandrel_does(name: str) -> None:
    try:
        model = backbone(name)
    except UserError:
        pytest.skip("refused")
    descriptor = spandrel.ModelLoader().load_from_file(saved(name, max(SMALL[name].scales)))
    for size in ((17, 23), (18, 22), (5, 7)):
        lr = image(*size)
        expected = (descriptor(lr / 255) * 255).round()
        assert (restore(model, lr) - expected).abs().max() <= 1


def test_the_page_is_current() -> None:
    """Where it is not: `python -m tests.backbones.every_architecture`."""
    assert page() == PAGE.read_text(encoding="utf-8")
