"""From a sentence, or a saved folder, to a stack.

`parts` makes one object of one item of the sentence, `assembly` a stack of all of them, `loading` the same of a folder
that passed the gate.
"""

from __future__ import annotations

from zoo.builder.assembly import build
from zoo.builder.loading import load

__all__ = ["build", "load"]
