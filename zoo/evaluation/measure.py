"""The whole measurement: a stack and images in, a report out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from zoo.data import images
from zoo.data.corruption import Corruption
from zoo.errors import EvaluationError
from zoo.evaluation import protocol, report, restoration, throughput
from zoo.evaluation.levels import Climb
from zoo.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

    from zoo.data import Images


NOT_JUDGED = {"generation": None, "reconstruction_distance": None}


def evaluate(
    stack: Stack,
    data: Any,
    *,
    split: str = "test",
    train: Any = None,
    samples: int = 0,
    features: str | None = None,
    corrupt: str | None = None,
    classifier: str | None = None,
    batch_size: int = 256,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, Any]:
    """Measure a stack by the protocol of docs/evaluation.md.

    Args:
        stack: on whatever device it is; its mode is put back afterwards.
        data: a name, folder, array, tensor or dataset, as ``zoo.fit`` takes it.
        split: the part of it that is measured on.
        train: data whose ``train`` part the yardsticks and classifiers are fitted on; the same data unless given.
        samples: how many samples FID and KID compare with the real images; 0 for neither.
        features: the network whose features FID and KID are of, of reconstructions and of samples: a timm model,
            ``NAME=FILE.safetensors``, or the folder of a saved stack.
        corrupt: also the reconstructions of images that suffered this, as ``noise=0.3`` or ``mask=0.5``.
        classifier: the network whose accuracy on reconstructions is measured: see ``recognition.judge_of``.
        batch_size: images at once.
        seed: of everything that is drawn: same seed, same report, but for the throughput.
        progress: show a bar.

    Returns:
        The report, JSON-ready. ``zoo.evaluation.table`` prints it.

    Raises:
        EvaluationError: reconstructions are not finite, or samples are asked of a stack that cannot sample.
        DataError: the data cannot be read.
    """
    if not isinstance(stack, Stack):
        raise EvaluationError(f"evaluate takes a stack, as of zoo.load(folder), not a {type(stack).__name__}")
    if samples and not features:
        raise EvaluationError(
            "FID and KID of samples need a network that judges them: add features, as in features='resnet18.a1_in1k'"
        )
    if batch_size < 1:
        raise EvaluationError(f"batch_size={batch_size}: at least one image at once")
    corruption = None if corrupt is None else Corruption.parse(corrupt)
    test = images(data, stack.input_shape, split=split)
    fitting = images(data if train is None else train, stack.input_shape, split="train")
    chosen = _chosen(fitting, stack, seed)
    numbers = tqdm(range(1, len(stack.levels) + 1), desc="evaluate", unit="level", disable=not progress)
    with protocol.measuring(stack):
        # first, because it may turn out that the stack cannot sample, or that there is no such network
        judged = (
            _judged(stack, test, samples=samples, features=features, batch_size=batch_size, seed=seed)
            if features else NOT_JUDGED
        )  # fmt: skip
        recognition = (
            _recognised(stack, test, classifier=classifier, train=fitting, batch_size=batch_size, seed=seed,
                        progress=progress)
            if classifier and len(stack.levels) else None
        )  # fmt: skip
        climb = Climb(stack, test, chosen, batch_size=batch_size, seed=seed)
        levels = [climb.measure(number) for number in numbers]
        restored = {} if corruption is None or not levels else {
            "restoration": restoration.restore(stack, test, corruption, batch_size=batch_size, seed=seed)
        }  # fmt: skip
        speed = throughput.speed(stack, test.batch(slice(0, batch_size))) if levels else None
    found = _finite({
        "protocol": protocol.describe(stack, test, fitting, len(chosen), seed=seed),
        "levels": levels,
        "end_to_end": levels[-1]["reconstruction"] if levels else None,
        "throughput": speed,
        **judged,
        "recognition": recognition,
        **restored,
    })  # fmt: skip
    found["notes"] += _notes(stack, fitting, test, corrupt=corrupt, classifier=classifier)
    found["summary"] = report.markdown(found)
    return found


def _notes(stack: Stack, fitting: Images, test: Images, **reconstructed: str | None) -> Iterator[str]:
    """What a reader has to know of what was fitted on, and what was asked for and left out."""
    if fitting.fingerprint == test.fingerprint:
        yield (
            "PCA, neighbours and probes were fitted on the very images that are measured, so they look better than "
            "they are: give training images with --train (train=)"
        )
    elif shared := protocol.overlap(fitting, test):
        yield (
            f"{shared:,} of the {len(test):,} images that are measured are training images too, and PCA, neighbours "
            "and probes look better for it: measure others (--split, split=), or give training images with --train "
            "(train=)"
        )
    for name, asked in reconstructed.items():
        if asked and not len(stack.levels):
            yield (
                f"--{name} ({name}=) is left out: it measures what comes back, and {stack.spec} has no level that "
                "encodes images"
            )


def _judged(stack: Stack, real: Images, **options: Any) -> dict[str, Any]:
    from zoo.evaluation import generation  # and with it timm, which takes seconds to import and is seldom needed

    return generation.judge(stack, real, **options)


def _recognised(stack: Stack, test: Images, **options: Any) -> dict[str, Any]:
    from zoo.evaluation import recognition  # and with it timm, likewise

    return recognition.recognise(stack, test, **options)


def _chosen(fitting: Images, stack: Stack, seed: int) -> Images:
    """A random part of the training images that bounds time and memory, in random order."""
    largest = max(math.prod(shape) for shape in (stack.input_shape, *(level.code_shape for level in stack.lower())))
    count = min(len(fitting), protocol.FITTED_ON, protocol.NUMBERS // largest)
    return fitting.subset(torch.randperm(len(fitting), generator=protocol.stream(seed, "training images"))[:count])


def _finite(found: dict[str, Any]) -> dict[str, Any]:
    """The report with six digits of every number, and None, with a note, for what is no number."""
    notes: list[str] = []

    def tidy(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: tidy(part, f"{path}.{key}" if path else key) for key, part in value.items()}
        if isinstance(value, list):
            return [tidy(part, f"{path}.{place}") for place, part in enumerate(value)]
        if isinstance(value, float):
            if not math.isfinite(value):
                notes.append(f"{path} came out as {value}")
                return None
            return float(f"{value:.6g}")
        return value

    return {**tidy(found, ""), "notes": notes}
