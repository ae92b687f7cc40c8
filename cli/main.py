"""The group `latentstore`. Its commands live in files of their own and are imported when they are asked for."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from .output import exit_messages, print_line, quiet_libraries


@dataclass(frozen=True)
class CommandRow:
    """One command: where it is, and what is true after it was stopped from the keyboard."""

    module: str
    when_stopped: str


COMMANDS = {
    "build": CommandRow(".build", "finished shards are kept, and typing the same command again continues."),
    "convert": CommandRow(".convert", "finished shards are kept, and typing the same command again continues."),
    "verify": CommandRow(".verify", "nothing was changed; typing the same command again starts over."),
    "push": CommandRow(".push", "what was sent is kept there, and typing the same command again continues."),
    "pull": CommandRow(".pull", "files that came are kept, and typing the same command again continues."),
    "drop": CommandRow(".drop", "nothing was removed, or all of it; typing the same command again says which."),
    "show": CommandRow(".show", "nothing was changed."),
    "compare": CommandRow(".compare", "VAEs that were measured are kept in --out, and lost without it."),
    "fetch": CommandRow(".fetch", "nothing incomplete was left; typing the same command again starts over."),
    "cache": CommandRow(".cache", "what was removed is gone, and is decoded again when it is needed."),
    "list": CommandRow(".list", "nothing was changed."),
}


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for, and turns errors into exit messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        """In the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command of that name; every module calls its own ``command``."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(COMMANDS[cmd_name].module, __package__).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does it; a name that does not exist is answered with the nearest one."""
        nearest = difflib.get_close_matches(args[0].casefold(), COMMANDS, n=1, cutoff=0.5)
        if args[0] not in COMMANDS and nearest:
            ctx.fail(f"There is no command {args[0]!r}. Did you mean {nearest[0]!r}?")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see :func:`latentstore_cli.output.exit_messages`."""
        with quiet_libraries(), exit_messages(lambda: COMMANDS[ctx.invoked_subcommand or "list"].when_stopped):
            return super().invoke(ctx)


def _print_version(ctx: click.Context, _parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from latentstore import __version__

        print_line(f"latentstore {__version__}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Results go to stdout, everything else to stderr. Exit codes: 0 ok, 1 failed, 2 the command line cannot be "
    "understood.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
def main() -> None:
    """Publish image datasets as latents, with proof of what was lost.

    \b
    latentstore build synthetic --vae demo --out out     pictures in, a measured latent dataset out
    latentstore verify out                               is it what its manifest says?
    latentstore show out                                 contract, quality, sizes
    latentstore push out user/repo --license cc-by-4.0   publish it; only what is new is sent
    latentstore list vaes                                which VAEs there are
    """
