"""Published stages in words: a row of a list, a page of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.cli.columns import columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zoo.registry import Data, Measured, Published

HEADING = ("name", "spec", "code", "data", "licence", "size", "source", "measured")


def as_rows(stages: Sequence[Published]) -> str:
    """A line for each, under a heading."""
    rows = [
        (stage.name, stage.spec, stage.code, stage.data.name, stage.licence, size(stage.bytes), source(stage),
         in_short(stage.metrics[0]))
        for stage in stages
    ]  # fmt: skip
    return columns([HEADING, *rows])


def as_page(stage: Published) -> str:
    """All that an entry says."""
    files = [(f"  {file.name}", file.bytes, file.sha256) for file in stage.files]
    metrics = [
        (f"  {told.data}, {told.split}", told.count, *(number(told, name) for name in ("mse", "mae", "psnr", "ssim")))
        for told in stage.metrics
    ]
    blocks = [
        f"{stage.name}: {stage.spec}, a code of {stage.code}",
        columns(
            [
                ("  weights", f"{stage.licence}, {size(stage.bytes)}, {source(stage)} at {stage.revision}"),
                ("  data", _data(stage.data)),
                ("  plugins", ", ".join(f"{name} of {origin}" for name, origin in stage.plugins.items())),
                ("  recipe", stage.recipe),
                ("  named by", stage.registry),
            ]
        ),
        f"measured by protocol {stage.metrics[0].version}\n"
        + columns([("  on", "images", "mse", "mae", "psnr dB", "ssim"), *metrics]),
        f"files\n{columns(files)}",
    ]
    return "\n\n".join(blocks)


def as_json(stage: Published) -> dict[str, Any]:
    """The entry with its name and the file that names it."""
    return {"name": stage.name, **stage.to_json(), "registry": str(stage.registry)}


def in_short(told: Measured) -> str:
    """What a stage is known by.

    >>> from zoo.registry import Measured
    >>> in_short(Measured({"mse": 0.0123456, "psnr": 19.0849}, 1, "sample", "test", 1000, ""))
    'mse 0.01235, psnr 19.08 on sample'
    """
    shown = [f"{name} {told.values[name]:.4g}" for name in ("mse", "psnr", "ssim") if name in told.values]
    return f"{', '.join(shown)} on {told.data}"


def size(count: int) -> str:
    """Bytes for people, as in "312 kB".

    >>> size(311_700), size(2_345_000), size(90)
    ('312 kB', '2.3 MB', '90 B')
    """
    if count < 1000:
        return f"{count} B"
    return f"{count / 1e3:.0f} kB" if count < 999_500 else f"{count / 1e6:.1f} MB"


def source(stage: Published) -> str:
    """Where the weights are."""
    return "with its package" if stage.folder else stage.source


def number(told: Measured, name: str) -> str:
    """A recorded number, or a dash."""
    return f"{told.values[name]:.6g}" if name in told.values else "-"


def _data(data: Data) -> str:
    return ", ".join(filter(None, [data.name, data.licence, data.url, data.attribution]))
