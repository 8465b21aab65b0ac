"""What the numbers were measured on and with."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path

import psutil
import torch

PACKAGES = ("stackzoo", "torch", "torchvision", "timm", "accelerate", "safetensors", "pluggy", "click")


def machine() -> dict[str, str | int | float | None]:
    """The processor and its vector instructions, the cores this process may use, the system, and how many others use.

    The last is measured over a second: an average load would still count the benchmark that has just ended.
    """
    shares = psutil.cpu_percent(interval=1, percpu=True)
    return {
        "processor": _processor(),
        "vectors": torch.backends.cpu.get_cpu_capability(),  # virtual machines name no model: AVX2 has no bf16, say
        "cores": cores(),
        "system": f"{platform.system()} {platform.machine()}",
        "busy": round(sum(share for core, share in enumerate(shares) if core in _own()) / 100, 1),
    }


def versions() -> dict[str, str]:
    """Of Python and of the packages that decide about speed."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text("utf-8").splitlines() if facts.is_file() else []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def cores() -> int:
    """How many this process may use."""
    return len(_own())


def _own() -> set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))
