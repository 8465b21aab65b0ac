"""The program `zoo`. What only one command needs, torch above all, is imported when that command runs."""

from __future__ import annotations

import click

from zoo.cli.caching import cache
from zoo.cli.coding import decode, encode
from zoo.cli.comparing import compare
from zoo.cli.demonstrating import demo
from zoo.cli.drawing import draw, sample
from zoo.cli.evaluating import evaluate
from zoo.cli.listing import list_names, plugins
from zoo.cli.program import Program
from zoo.cli.publishing import publish, verify
from zoo.cli.rates import lr_find
from zoo.cli.reproducing import reproduce
from zoo.cli.rungs import rungs
from zoo.cli.searching import anomalies, nearest
from zoo.cli.sharing import pull, push
from zoo.cli.showing import cite, show
from zoo.cli.training import train
from zoo.cli.varying import interpolate, similar

__all__ = ["main"]


@click.group(
    "zoo",
    cls=Program,
    commands=[
        demo,
        list_names,
        show,
        plugins,
        cite,
        train,
        lr_find,
        evaluate,
        compare,
        sample,
        draw,
        encode,
        decode,
        nearest,
        anomalies,
        interpolate,
        similar,
        rungs,
        push,
        pull,
        publish,
        verify,
        reproduce,
        cache,
    ],
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog='Completion in the shell: eval "$(_ZOO_COMPLETE=bash_source zoo)", or zsh_source, or fish_source.',
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
@click.version_option(package_name="stackzoo", prog_name="zoo")
def main(*, debug: bool) -> None:
    """Train, measure and use stacks of autoencoders.

    A stack is a spec, as in 28x28x1/conv7x7x10/fc8+kl: levels, pixels first, each a stage and the terms of its
    objective. `zoo list` shows the names there are, `zoo demo` trains a first one.
    """
