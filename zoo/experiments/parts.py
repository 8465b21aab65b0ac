"""Training and test images of one set of data: whether they are apart, as a page has to say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zoo.evaluation.protocol import overlap

if TYPE_CHECKING:
    from zoo.data import Images

SAME = "the same ones, as the data is not split: what is said of test images means nothing"
"""Of a file or an array, which comes whole whatever part is asked for."""


def mingled(train: Images, test: Images) -> str:
    """What has to be said of test images that are training images; nothing where none is."""
    if train.fingerprint == test.fingerprint:
        return SAME
    if shared := overlap(train, test):
        return f"{shared:,} of the test images being training images too: what is said of test images is too good"
    return ""
