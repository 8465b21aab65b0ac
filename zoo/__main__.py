"""``python -m zoo`` is ``zoo``."""

from __future__ import annotations

from zoo.cli import main

main(prog_name="zoo")
