"""From a spec, or a saved folder, to a stack.

`parts` makes one object of one item of the spec, `assembly` a stack of all of them, `loading` the same of a folder
that passed the gate. `sources` finds the folder, also on the Hub and in registry.json; `bringing` puts the levels of
such a folder into a spec (`resizing` for images of another size), and `building` assembles the rest on top.
"""

from __future__ import annotations

from zoo.builder.building import build
from zoo.builder.loading import load
from zoo.builder.sources import Source, locate

__all__ = ["Source", "build", "load", "locate"]
