"""Parts of pages that are made from the program, so that they say what it does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def check_made(page: Path, begin: str, end: str, made: str, how: str) -> None:
    """The part of a page between two comments is what was made; with ZOO_WRITE_DOCS set it is written there.

    Args:
        page: the file.
        begin: the comment before the part, without its brackets.
        end: the comment after it.
        made: what the part has to be.
        how: the command that writes it.
    """
    first, last = f"<!-- {begin} -->\n", f"<!-- {end} -->\n"
    before, _, rest = page.read_text("utf-8").partition(first)
    shown, _, after = rest.partition(last)
    if os.environ.get("ZOO_WRITE_DOCS"):
        page.write_text(f"{before}{first}\n{made}\n{last}{after}", "utf-8")
        return
    assert shown.strip() == made.strip(), f"run ZOO_WRITE_DOCS=1 {how}"
