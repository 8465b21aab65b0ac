"""What every test of the Hub begins with."""

from __future__ import annotations

import pytest
import torch

import zoo
from loopback import Forks, Machine, Server

SPEC = "8x8x1/conv2x2x4(width=4, blocks=0)/fc2(hidden=[16])+wae_mmd"
REPORT = {
    "protocol": {"data": {"name": "digits", "split": "test"}},
    "levels": [{"representation": {"knn": 0.5, "probe": 0.75}}],
    "end_to_end": {"mse": 0.0125, "mae": 0.05, "psnr": 19.5, "ssim": None},
    "generation": None,
    "summary": "It was measured.",
}


@pytest.fixture(scope="session")
def stack():
    """A stack of two levels, which says that it was trained."""
    stack = zoo.build(SPEC, seed=1)
    for level in stack.lower():
        level.trained.fill_(True)
    return stack


@pytest.fixture(scope="session")
def folder(stack, tmp_path_factory):
    """The same, saved with a report."""
    return stack.save(tmp_path_factory.mktemp("saved") / "stack", report=REPORT)


@pytest.fixture(scope="session")
def images():
    return torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def forks():
    with Forks() as forks:
        yield forks


@pytest.fixture
def server():
    with Server() as server:
        yield server


@pytest.fixture
def machine(server, forks, tmp_path):
    """The machine of the one who pushes."""
    return Machine(server, forks, tmp_path / "here")


@pytest.fixture
def other(server, forks, tmp_path):
    """Somebody else's machine: another cache, another user."""
    return Machine(server, forks, tmp_path / "there", {"HF_TOKEN": "hf_friend"})
