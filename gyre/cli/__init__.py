"""The `gyre` command."""

from __future__ import annotations

import importlib
from typing import Any

import click

from embedded.errors import EmbeddedError
from services.runtime.errors import InvalidSettings

# Listed here with their one line of help, so that `gyre --help` need not import what they need.
# Each is the command of its name in `gyre/cli/<name>.py`.
_COMMANDS = {
    "up": "Start the stack on this machine.",
    "status": "Show how each part of the stack is.",
    "doctor": "Find what is wrong, and say what to do.",
    "logs": "Show what the parts of the stack have logged.",
    "down": "Stop the stack.",
    "demo": "Play the learning loop once round.",
    "policy": "Check and publish what an operator decides.",
    "labels": "Take labels out into files, and in from other tools.",
    "experts": "Say who may judge answers.",
    "export": "Take a specialist out, as one folder that needs no Gyre.",
    "audit": "Prove, verify and erase what is on record.",
    "dlq": "Look at dead letters, and send them back.",
    "certificates": "Make a CA for development, and certificates.",
    "backup": "Write what cannot be made again into a folder.",
    "restore": "Put a backup into an empty installation.",
    "kafka": "Make the topics, and say who may do what with them.",
    "schemas": "Check the schemas of messages and tables.",
    "capacity": "Say what an installation of a size takes.",
}
_OURS = ("buf", "embedded", "gyre", "schemas", "services")


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        with _explained():
            command = getattr(importlib.import_module(f"gyre.cli.{cmd_name}"), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        with _explained():
            return super().invoke(ctx)


class _explained:  # noqa: N801 - used as a verb
    """Turns what a person can mend into one sentence instead of a traceback."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: Any, error: BaseException | None, _traceback: Any) -> None:
        if isinstance(error, EmbeddedError | InvalidSettings):
            raise click.ClickException(str(error)) from error
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] not in _OURS:
            raise click.ClickException(
                f"This command needs the package {error.name}; "
                "install it with: pip install 'gyre-flywheel[embedded,demo]'"
            ) from error


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gyre-flywheel", prog_name="gyre")
def main() -> None:
    """Turn the traffic of your AI applications into models that you own.

    \b
    The first time round:
      gyre up        start everything on this machine
      gyre demo      see the loop go round once
      gyre down      stop everything; what was stored stays in the state folder
    """  # noqa: D301 - the backspace itself is what tells click to keep the lines
