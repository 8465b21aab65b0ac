"""What the heads that learn by class say about labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence


def check_label(name: str, label: int, known: Sequence[int]) -> None:
    """Refuse a label that the head called ``name`` has not learned.

    Raises:
        EvaluationError: it has learned others, or none.
    """
    if label in known:
        return
    if not known:
        raise EvaluationError(
            f"{name} has learned no classes and cannot draw label {label}: sample without a label, or train "
            f"{name}(classes=true) on data that has labels"
        )
    raise EvaluationError(f"{name} has not learned label {label}; it has learned {spans(known)}")


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers in words.

    >>> spans([0, 1, 2, 3, 7, 9, 10])
    '0 to 3, 7, 9 to 10'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return ", ".join(" to ".join(map(str, run)) for run in runs)
