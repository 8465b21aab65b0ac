"""Measurements of the zoo beside an anchor, side by side in one run: ``python -m benchmarks``.

A benchmark is a module of this package: its docstring says what is measured and beside what, and its ``run`` gives the
rows. The runner prints them as a table and, with ``--json``, keeps them with the machine and the versions.
"""
