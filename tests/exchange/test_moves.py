"""Moves are seen by other processes only once they can be undone."""

from __future__ import annotations

import threading
from pathlib import Path

from adaptsr.exchange.moves import recover, staging_of


def test_a_merge_that_begins_is_left_alone_by_every_command_that_starts_beside_it(tmp_path: Path) -> None:
    """Each parse of the Snakefile calls `recover`."""
    results, stop = tmp_path / "results", threading.Event()
    failed: list[Exception] = []

    def others() -> None:
        while not stop.is_set():
            try:
                recover(results)
            except Exception as error:
                failed.append(error)

    beside = threading.Thread(target=others)
    beside.start()
    try:
        for number in range(200):
            source = tmp_path / "packs" / str(number)
            source.mkdir(parents=True)
            with staging_of(results) as moves:
                moves.move(source, results / str(number))
                moves.commit()
            assert (results / str(number)).is_dir()
    finally:
        stop.set()
        beside.join()
    assert failed == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".merge")] == []
