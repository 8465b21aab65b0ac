"""The model card beside a saved stack: what it is, what it was measured to do, and how to use it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MARK = "<!-- Written by the zoo, and written anew with the stack. Without this line the text is kept. -->"

_CARD = """---
{metadata}---

{mark}

# {title}

A stack of autoencoders from stackzoo: images of {height}x{width}x{channels}, float in [{low:g}, {high:g}].
{picture}
| level | spec | code, channels first |
|---|---|---|
{levels}

```python
import zoo

stack = zoo.load({source})
z = stack.encode(images)   # (B, {channels}, {height}, {width}) in [{low:g}, {high:g}] -> (B, {code})
x_hat = stack.decode(z)    # and back
```

{measured}

## Made with

stackzoo {version}, and these of its plugins:

| name | from |
|---|---|
{plugins}
"""

TASK = "image-feature-extraction"
_ERRORS = {"mse": "MSE", "mae": "MAE", "psnr": "PSNR (dB)", "ssim": "SSIM"}
_ACCURACIES = {"knn": "accuracy, 10 nearest neighbours", "probe": "accuracy, linear probe"}
_SAMPLES = {"fid": "FID", "kid": "KID"}
_DATASET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")  # anything else is a folder of somebody's
PUBLIC = frozenset({
    "celeba", "cifar10", "cifar100", "fashion_mnist", "flowers102", "food101", "imagenette", "kmnist", "mnist",
    "oxford_pets", "stl10", "svhn",
})  # fmt: skip
"""Sets that anybody can have: the names of zoo.data, which is above this, but for its own sample."""


def render(
    config: Mapping[str, Any],
    report: Mapping[str, Any] | None,
    *,
    source: str = "FOLDER",
    picture: str | None = None,
    licence: str | None = None,
    trained_on: str | None = None,
) -> str:
    """The card as Markdown, its metadata as the Hub reads them.

    Args:
        config: of the stack.
        report: what it was measured to do, if it was.
        source: what ``zoo.load`` takes to load it.
        picture: the name of a picture beside the card.
        licence: as the Hub writes it.
        trained_on: the name of the images that it was trained on, where that is known.
    """
    channels, height, width = config["input"]["shape"]
    low, high = config["input"].get("range", (0, 1))
    levels = config["levels"]
    code = next((level["code_shape"] for level in reversed(levels) if "code_shape" in level), config["input"]["shape"])
    rows = [
        f"| {number} | {_code(level['spec'], cell=True)} | "
        f"{_shape(level['code_shape']) if 'code_shape' in level else 'head'} |"
        for number, level in enumerate(levels, 1)
    ]
    return _CARD.format(
        metadata=_yaml(_metadata(config, report, licence, trained_on)), mark=MARK, title=_code(config["spec"]),
        channels=channels, height=height, width=width, low=low, high=high,
        picture=f"\n![Images, and what comes back]({picture})\n" if picture else "",
        levels="\n".join(rows), code=_shape(code, ", "), source=_quoted(source),
        measured="\n\n".join(_measured(report)) if report else "Not yet evaluated: `zoo eval FOLDER --data DATA`.",
        version=config.get("zoo", ""), plugins="\n".join(_plugins(config)),
    )  # fmt: skip


def renewed(own: bytes, written: str) -> bytes:
    """The card of a folder: as somebody has made it, who took the mark out of it, or as it is written now.

    Args:
        own: the card that is there; empty where there is none.
        written: what `render` came to.
    """
    return own if own and not is_generated(own) else written.encode()


def is_generated(card: bytes) -> bool:
    """Whether a card still has the mark by which it may be written anew."""
    return MARK.encode() in card


def _metadata(
    config: Mapping[str, Any], report: Mapping[str, Any] | None, licence: str | None, trained_on: str | None
) -> dict[str, Any]:
    names = [name[0] for level in config["levels"] if (name := re.match("[A-Za-z_]+", level["spec"]))]
    metadata: dict[str, Any] = {
        "library_name": "stackzoo",
        "pipeline_tag": TASK,
        "tags": list(dict.fromkeys(["autoencoder", "stackzoo", *names])),
    }
    if licence is not None:
        metadata["license"] = licence
    if trained_on in PUBLIC:  # to the Hub these are what a model was trained on
        metadata["datasets"] = [trained_on]
    results = [*_results(report)]
    if results:
        metadata["metrics"] = list(dict.fromkeys(metric["type"] for result in results for metric in result["metrics"]))
        metadata["model-index"] = [{"name": config["spec"], "results": results}]
    return metadata


def _results(report: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """The report's numbers as the Hub's evaluation results; none on a folder of somebody's, whose name says nothing."""
    name, split = _at(report, "protocol", "data", "name"), _at(report, "protocol", "data", "split")
    if not isinstance(name, str) or not isinstance(split, str) or not _DATASET.fullmatch(name):
        return
    levels = _at(report, "levels")
    top = levels[-1] if isinstance(levels, list) and levels else None
    parts = (
        (TASK, "Reconstruction", _ERRORS, _at(report, "end_to_end")),
        (TASK, "Classification of the codes", _ACCURACIES, _at(top, "representation")),
        ("unconditional-image-generation", "Samples", _SAMPLES, _at(report, "generation")),
    )
    for task, words, kinds, found in parts:
        metrics = [
            {"type": kind, "value": float(value), "name": said}
            for kind, said in kinds.items()
            if isinstance(value := _at(found, kind), int | float) and not isinstance(value, bool)
        ]
        if metrics:
            dataset = {"type": name, "name": name, "split": split}
            yield {"task": {"type": task, "name": words}, "dataset": dataset, "metrics": metrics}


def _yaml(metadata: Mapping[str, Any]) -> str:
    import yaml  # not needed to list names

    # one line for every scalar, and nothing but ASCII: what a spec holds in quotes cannot end the metadata
    return str(yaml.safe_dump(dict(metadata), sort_keys=False, allow_unicode=False, width=float("inf")))


def _plugins(config: Mapping[str, Any]) -> list[str]:
    plugins = config.get("plugins")
    return [f"| {name} | {origin} |" for name, origin in plugins.items()] if isinstance(plugins, dict) else []


def _measured(report: Mapping[str, Any]) -> list[str]:
    summary = report.get("summary")
    return ["## Measured", summary] if isinstance(summary, str) else []


def _at(found: Any, *keys: str) -> Any:
    """What stands there in a report; None where it has another form."""
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _shape(shape: list[int], between: str = " x ") -> str:
    return between.join(map(str, shape))


def _code(text: str, *, cell: bool = False) -> str:
    """Text as Markdown's code, whatever it holds."""
    text = " ".join(text.split())
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    if cell:
        text = text.replace("|", "\\|")
    return f"{ticks}{space}{text}{space}{ticks}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
