"""One thread: the tests' models are tiny, and two threads that wait for each other are slower than one."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"
