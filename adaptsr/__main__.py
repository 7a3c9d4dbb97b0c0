"""`python -m adaptsr` is the command `adaptsr`, where nothing is installed."""

from __future__ import annotations

from adaptsr.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
