"""Photographs without HR, in a profile that trains nothing: scored, reported, and a metric filled in when its file comes."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.io

from adaptsr.data.images import write_png
from tests.factories import noise
from tests.workflow.conftest import Workspace

pytestmark = pytest.mark.slow
FILE = "chaofengc/IQA-PyTorch-Weights/resolve/main/niqe_modelparameters.mat"


@pytest.fixture(scope="module")
def photographs(workspace: Workspace) -> Workspace:
    """Two photographs of other sizes, the unadapted backbone, an external model's images of one of them."""
    demo = workspace.profile()
    for name, size in (("a", (64, 48)), ("b", (60, 64))):
        write_png(workspace.root / f"photos/{name}.png", noise(name, *size))
        write_png(workspace.root / f"theirs/{name}.png", noise(f"restored {name}", 4 * size[0], 4 * size[1]))
    metrics = {"psnr_y": "psnr", "niqe": "niqe", "maniqa": "maniqa-pipal", "piqe": "piqe"}
    content = {key: demo[key] for key in ("name", "title", "compute", "backbones")} | {
        "seeds": [1],
        "datasets": {"camera": {"kind": "unpaired", "lr": "photos"}},
        "data": {"test": [{"dataset": "camera"}]},
        "external": {"theirs": {"title": "Their model", "folders": {"camera": "theirs"}}},
        "scoring": {"metrics": {column: {"name": name, "title": column.upper()} for column, name in metrics.items()}},
        "report": {
            "pictures": ["a"],
            "cost": {"side": 16, "runs": 2},
            "tables": {"table1": {"title": "Photographs", "rows": ["*"]}},
        },
    }
    workspace.write_profile(content)
    return workspace


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Path]:
    """A folder whose files are served on the port of `HF_ENDPOINT` while a test lasts."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield tmp_path / str(serving.server_port)
        serving.shutdown()


def make(photographs: Workspace) -> str:
    done = photographs.snakemake("--cores", "2", "all")
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_a_metric_fills_in_as_soon_as_its_file_can_be_fetched(
    photographs: Workspace, server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.name}")
    make(photographs)
    table = pd.read_csv(photographs.root / "reports/demo/table1.csv").set_index("row")
    assert table["piqe_mean"].notna().all()
    assert table[["niqe_mean", "psnr_y_mean"]].isna().all(axis=None)
    for note in (
        "NIQE is not measured, because NIQE weights are not available: put http://127.0.0.1",
        "MANIQA (maniqa-pipal) is not measured, because MANIQA weights are not available",
        "Not measured, because these photographs have no HR.",
    ):
        assert table["notes"].str.contains(note, regex=False).all()
    page = (photographs.root / "reports/demo/index.html").read_text()
    assert "LR without HR, enlarged bicubically to 192 \N{MULTIPLICATION SIGN} 256 pixels" in page
    assert "Nothing is trained." in page
    assert "Restoring one image of 16x16 LR pixels on " in page
    assert "Nothing to be done" in make(photographs), "the file is not there yet"

    parameters = {"mu_prisparam": np.zeros((1, 36)), "cov_prisparam": np.eye(36)}
    (tmp_path / FILE).parent.mkdir(parents=True)
    scipy.io.savemat(tmp_path / FILE, parameters)
    make(photographs)
    filled = pd.read_csv(photographs.root / "reports/demo/table1.csv").set_index("row")
    assert filled["niqe_mean"].notna().all()
    assert filled["piqe_mean"].equals(table["piqe_mean"])
    assert filled["maniqa_mean"].isna().all()
    assert "Nothing to be done" in make(photographs)
