"""The command line: `volet COMMAND`. Exit status 0 done, 1 refused or findings, 2 wrong usage."""

from __future__ import annotations

from typing import Annotated

import typer

from volet import __version__
from volet.cli import cards, documents, journal, media, push, server

# Plain help: in rich's, `[8443]` would be taken for markup.
app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False, no_args_is_help=True,
                  context_settings={"help_option_names": ["-h", "--help"]},
                  epilog="Example: volet push samples/vsm.xml --card medecin-traitant")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"volet {__version__}")
        raise typer.Exit


@app.callback()
def volet(_version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                 help="Say the version and leave.")] = False) -> None:
    """Volet: the French shared medical record (DMP) on one's own machine. Unofficial: no verdict has legal value."""


for part in (server, push, documents, media, cards, journal):
    part.register(app)


def main() -> None:
    """Run the command line."""
    app()
