"""Names are listed without torch, and at once."""

from __future__ import annotations

import subprocess
import sys

import pytest


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "use",
    [
        "import zoo",
        "import zoo; zoo.list(); zoo.list('conv*', kind='stage', pretrained=True)",
        "from zoo import registry; registry.plugins(); registry.commands(); registry.find('conv')",
        "import zoo; zoo.ZooError; zoo.hookimpl; zoo.parse('conv8x8x64+kl')",
    ],
)
def test_names_need_no_torch(use: str) -> None:
    heavy = "{'torch', 'numpy', 'timm', 'PIL', 'sklearn', 'matplotlib'}"
    assert run(f"import sys; {use}; print(sorted({heavy} & set(sys.modules)))") == "[]\n"


def test_listing_is_fast() -> None:
    """In seconds of the processor, interpreter and all, beside importing numpy; the best of three."""
    measure = "import time; start = time.process_time(); import {}; imported = time.process_time() - start; "
    zoo, numpy = measure.format("zoo") + "zoo.list(); ", measure.format("numpy")
    told = "print(imported, time.process_time())"
    runs = [[map(float, run(code + told).split()) for code in (zoo, numpy)] for _ in range(3)]
    (imported, listed), (of_numpy, started) = (map(min, zip(*each, strict=True)) for each in zip(*runs, strict=True))
    assert imported < of_numpy
    assert listed < 5 * started
