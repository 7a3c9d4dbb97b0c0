"""What a profile may say about metrics, and what each of them then means."""

from __future__ import annotations

import subprocess
import sys

import pytest

from adaptsr.config.schema import Metric, Scoring
from adaptsr.errors import UserError
from adaptsr.metrics.conventions import conventions
from adaptsr.scoring.scorer import Scorer
from tests.factories import scoring_of


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (Metric(name="lpisp"), r"scoring\.metrics\.a\.name: pyiqa has no metric 'lpisp'; close names are lpips"),
        (Metric(name="zzzzzz"), r"full-reference metrics are afine_all, "),
        (Metric(name="niqe"), r"'niqe' does not compare with a reference image"),
        (Metric(name="lpips", options={"nett": "vgg"}), r"options\.nett: .*did you mean 'net'"),
        (Metric(name="psnr", options={"colour_space": "yiq"}), r"did you mean 'color_space'"),
        (Metric(name="psnr", options={"color_space": "ycbcrr"}), r"allowed are lhm, ycbcr, yiq"),
        (Metric(name="ssim", options={"crop_border": 4}), r"set scoring\.crop_border instead"),
        (Metric(name="lpips", options={"net": "squeeze"}), r"would be read as LPIPS with AlexNet"),
        (Metric(name="lpips", options={"net": "resnet"}), r"allowed are 'alex', 'squeeze', 'vgg', found 'resnet'"),
        (Metric(name="lpips", options={"pretrained_model_path": "gone.pth"}), r"no file gone\.pth"),
    ],
)
def test_a_mistaken_metric_is_one_line(metric: Metric, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Scorer(Scoring(metrics={"a": metric}))
    assert "\n" not in str(caught.value)


def test_conventions_state_the_color_space() -> None:
    """Y is pinned to studio-swing BT.601 wherever pyiqa lets us; elsewhere the row says what pyiqa takes."""
    names = ("psnr", "psnry", "ssim", "ssimc", "ms_ssim", "cw_ssim", "gmsd", "nlpd", "vif", "fsim", "lpips", "dists")
    spaces = {convention.column: convention.color_space for convention in conventions(scoring_of(*names))}
    assert {name for name, space in spaces.items() if space == "ycbcr"} == {
        "psnr",
        "psnry",
        "ssim",
        "ms_ssim",
        "cw_ssim",
    }
    assert {name for name, space in spaces.items() if space == "rgb"} == {"ssimc", "lpips", "dists"}
    [rgb] = conventions(scoring_of("psnr", test_y_channel=False))
    [luma] = conventions(scoring_of("psnr", color_space="yiq"))
    assert (rgb.color_space, luma.color_space) == ("rgb", "yiq")


def test_importing_costs_neither_torch_nor_pyiqa() -> None:
    """A workflow can check a profile's metrics while it is parsed."""
    code = (
        "import sys; from adaptsr.metrics.conventions import conventions; from adaptsr.metrics.weights import weight_files; from adaptsr.scoring.folders import standard_scoring; "
        "conventions(standard_scoring()); weight_files(standard_scoring()); "
        "print(sorted({'torch', 'pyiqa', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
