"""The model card beside a saved stack: what it is, what it was measured to do, and how to use it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_CARD = """---
library_name: stackzoo
pipeline_tag: image-feature-extraction
tags: [autoencoder, stackzoo]
---

# `{spec}`

A stack of autoencoders from stackzoo. Images {height}x{width}x{channels}, float in [0, 1].

| level | sentence | code |
|---|---|---|
{levels}

```python
import zoo

stack = zoo.load("FOLDER")
z = stack.encode(images)   # (B, {channels}, {height}, {width}) in [0, 1] -> (B, {code})
x_hat = stack.decode(z)
```

{measured}
"""


def render(config: Mapping[str, Any], report: Mapping[str, Any] | None) -> str:
    """The card as Markdown, from a stack's config and, where there is one, its report."""
    channels, height, width = config["input"]["shape"]
    levels = config["levels"]
    code = next((level["code_shape"] for level in reversed(levels) if "code_shape" in level), config["input"]["shape"])
    rows = [
        f"| {number} | `{level['spec']}` | {_shape(level['code_shape']) if 'code_shape' in level else 'head'} |"
        for number, level in enumerate(levels, 1)
    ]
    return _CARD.format(
        spec=config["spec"], channels=channels, height=height, width=width,
        levels="\n".join(rows), code=_shape(code, ", "),
        measured="\n\n".join(_measured(report)) if report else "Not yet evaluated: `zoo eval FOLDER --data DATA`.",
    )  # fmt: skip


def _shape(shape: list[int], between: str = " x ") -> str:
    return between.join(map(str, shape))


def _measured(report: Mapping[str, Any]) -> list[str]:
    summary = report.get("summary")
    return ["## Measured", summary] if isinstance(summary, str) else []
