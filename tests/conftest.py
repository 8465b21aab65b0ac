"""One thread: the tests' models are tiny, and two threads that wait for each other are slower than one."""

from __future__ import annotations

import os

import pytest

os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(autouse=True)
def drawn_alike():
    """The numbers a test draws are its own, whichever tests ran before it in its process."""
    import torch  # not before the line above has told it of one thread

    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory):
    """A cache of the tests' own: no test reads or fills that of the user."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZOO_CACHE", str(folder))
        yield folder
