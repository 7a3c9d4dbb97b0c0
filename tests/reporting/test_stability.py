"""The page about importance scores shows every measurement, with the published correlation beside the score that has one."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from adaptsr import files
from adaptsr.reporting.stability import write_stability
from tests.factories import matrix_of, profile_content


def test_what_was_measured_stands_beside_what_was_published(tmp_path: Path) -> None:
    profile = matrix_of(profile_content("ablations")).profile
    numbers = {"sites": 13, "batches": 50, "batch_size": 8, "pairwise": 0.9, "with_mean": 0.95, "minimum": 0.8}
    for name in profile.backbones:
        measured = [{"backbone": name, "score": score, **numbers} for score in ("gradient", "snip")]
        files.write_json(tmp_path / "stability" / f"{name}.json", {"measured": measured})
    page, table = write_stability(profile, tmp_path, tmp_path / "report")
    frame = pd.read_csv(table).set_index(["backbone", "score"])
    assert frame.loc[("swinir", "gradient"), "published"] == "0.91"
    assert frame.loc[("swinir", "snip"), "published"] == "not printed"
    text = page.read_text()
    assert "SAFMN (4 blocks, 16 channels), gradient" in text
    assert "batch size, backbone and kind of mean are not stated" in text
    assert text.count('<td data-value="0.900">0.900</td>') == 4
