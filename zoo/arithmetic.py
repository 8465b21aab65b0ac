"""How numbers are rounded: digits, and sums in one order, are traded for speed where nobody says otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def in_full() -> Iterator[None]:
    """Products and convolutions of float32 in all of its digits, by the same algorithms every time.

    What is kept for others, who may compute with other settings, is computed so. These settings are asked one by one:
    the older ones, which stand for several, cannot be read where somebody has set one of them.
    """
    own: Any = torch.backends  # which puts things in its modules' places, so that types are not known
    settings = own.cuda.matmul, own.cudnn.conv, own.cudnn.rnn, own.mkldnn.matmul, own.mkldnn.conv
    before = [each.fp32_precision for each in settings]
    try:
        for each in settings:
            each.fp32_precision = "ieee"
        with repeatable():
            yield
    finally:
        for each, precision in zip(settings, before, strict=True):
            each.fp32_precision = precision


@contextmanager
def repeatable() -> Iterator[None]:
    """Convolutions by the same algorithms every time, each with sums in one order; digits are left as they are."""
    flags = torch.backends.cudnn
    before = flags.benchmark, flags.deterministic
    flags.benchmark, flags.deterministic = False, True
    try:
        yield
    finally:
        flags.benchmark, flags.deterministic = before
