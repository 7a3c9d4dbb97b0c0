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
        (Metric(name="zzzzzz"), r"pyiqa has no metric 'zzzzzz'; metrics are afine_all, "),
        (Metric(name="fid"), r"'fid' does not score a single image"),
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


@pytest.mark.parametrize(
    ("metric", "heading", "weights"),
    [
        (Metric(name="niqe", title="NIQE"), "NIQE", "niqe_modelparameters.mat"),
        (Metric(name="maniqa", title="MANIQA"), "MANIQA (koniq)", "ckpt_koniq10k.pt"),
        (Metric(name="maniqa-pipal", title="MANIQA"), "MANIQA (maniqa-pipal)", "MANIQA_PIPAL-ae6d356b.pth"),
        (
            Metric(name="maniqa", title="MANIQA", options={"train_dataset": "pipal"}),
            "MANIQA (pipal)",
            "MANIQA_PIPAL-ae6d356b.pth",
        ),
        (Metric(name="musiq"), "m (musiq, koniq10k)", "musiq_koniq_ckpt-e95806b9.pth"),
        (Metric(name="clipiqa", title="CLIPIQA"), "CLIPIQA", ""),
        (Metric(name="lpips", title="LPIPS"), "LPIPS", "LPIPS_v0.1_alex-df73285e.pth"),
    ],
)
def test_without_a_reference_the_heading_names_the_weights(metric: Metric, heading: str, weights: str) -> None:
    [found] = conventions(Scoring(metrics={"m": metric}))
    assert (found.heading, found.weights, found.reference) == (heading, weights, metric.name == "lpips")


def test_importing_costs_neither_torch_nor_pyiqa() -> None:
    """A workflow can check a profile's metrics while it is parsed."""
    code = (
        "import sys; from adaptsr.metrics.conventions import conventions; from adaptsr.metrics.weights import weight_files; from adaptsr.scoring.folders import standard_scoring; "
        "conventions(standard_scoring()); weight_files(standard_scoring()); "
        "print(sorted({'torch', 'pyiqa', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
