"""The program around the commands: those that plugins offer, and errors as messages."""

from __future__ import annotations

import errno
from importlib import import_module
from typing import IO, TYPE_CHECKING, Any

import click

from zoo import registry
from zoo.errors import ZooError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from zoo.registry import Entry


BATCH_SIZE = "--batch-size"


class Stopped(click.ClickException):
    """The user pressed Ctrl-C: what was stopped and how to go on, with the exit code that shells know for it."""

    exit_code = 130

    def show(self, file: IO[Any] | None = None) -> None:
        """Print the message as it is: being asked to stop is no error."""
        click.echo(self.message, file=file, err=file is None)


class Program(click.Group):
    """Commands of its own, in the order given, and those that plugins offer, each imported when it is called.

    A plugin's command that has the name of one of its own is not reached.

    Args:
        own: its own commands, each as ``module:function``.
    """

    def __init__(self, *args: Any, own: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self.own = own

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The program's own commands, then the plugins'."""
        return [*self.own, *sorted(registry.commands().keys() - self.own.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The program's own command of this name; else a plugin's, still to be imported."""
        if cmd_name in self.own:
            module, _, function = self.own[cmd_name].partition(":")
            command: click.Command = getattr(import_module(module), function)
            return command
        entry = registry.commands().get(cmd_name)
        return None if entry is None else Offered(entry)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The program's own, and which plugins are not in use: what they offer is missing from the list above."""
        super().format_epilog(ctx, formatter)
        if note := registry.unused():
            formatter.write_paragraph()
            formatter.write_text(note)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. What goes wrong becomes a message and an exit code; with ``--debug`` it stays an exception."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            raise Stopped("Stopped.") from None
        except Exception as error:
            if ctx.params["debug"] or getattr(error, "errno", None) == errno.EPIPE:  # click knows what to do with pipes
                raise
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            batched = command is not None and any(BATCH_SIZE in parameter.opts for parameter in command.params)
            raise click.ClickException(_message(error, batched=batched)) from error


class Offered(click.Command):
    """Stands for a plugin's command: to list it imports nothing, and a broken one fails only when it is called."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.name, short_help=f"From {entry.origin}.", add_help_option=False)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """The context of the real command, which click then runs."""
        command: click.Command = registry.find(str(self.name), kinds=("command",)).load()
        return command.make_context(info_name, args, parent, **extra)


def _message(error: Exception, *, batched: bool) -> str:
    """What to say of an error of a command, which has an option for the size of its batches or not."""
    if isinstance(error, ZooError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError) or "out of memory" in str(error).lower():  # torch's own classes are not imported
        smaller = f"a smaller {BATCH_SIZE}, smaller images" if batched else "smaller images, or fewer,"
        return (
            f"out of memory: {str(error).splitlines()[0] if str(error) else 'there is no more'}\nTake {smaller} or a "
            "narrower stage (width=); CUDA_VISIBLE_DEVICES= leaves the GPU out."
        )
    return (
        f"{type(error).__name__}: {error}\n"
        "This is a bug in the zoo or in a plugin: 'zoo --debug COMMAND ...' shows where. Please report it."
    )
