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
    """In seconds of the processor, interpreter and all; the best of three, as other work disturbs."""
    measure = "import time; start = time.process_time(); import zoo; imported = time.process_time() - start; "
    measure += "zoo.list(); print(imported, time.process_time())"
    imported, listed = zip(*(map(float, run(measure).split()) for _ in range(3)), strict=True)
    assert min(imported) < 0.1
    assert min(listed) < 0.25
