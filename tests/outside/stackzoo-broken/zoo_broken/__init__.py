"""A plugin whose import fails, as one does that was built for another version of something."""

from __future__ import annotations

raise RuntimeError("zoo_broken was built for another CUDA")
