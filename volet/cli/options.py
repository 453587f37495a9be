"""Options that several commands share, and what they mean: card, server, patient, mode of access."""

from __future__ import annotations

import os
import re
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from cda.derive import INS_ROOTS
from security.identity import AccessMode
from volet.cli.show import Lang
from volet.client.card import Access, Card, CardError, find_folder, load_card
from volet.client.exchange import Endpoint
from xds.hl7 import CX, DTM, HD

_TEST_NIR = INS_ROOTS[2]
_INS = re.compile(r"[0-9]{6}[0-9AB][0-9]{8}")  # A, B: born in Corsica


class Status(StrEnum):
    """Statuses of documents that can be asked for."""

    APPROVED = "approved"
    DEPRECATED = "deprecated"
    ARCHIVED = "archived"


class Mask(StrEnum):
    """From whom a document is masked."""

    PS = "ps"
    PATIENT = "patient"
    LEGAL = "legal"


CardOption = Annotated[str, typer.Option("--card", metavar="DIR",
                                         help="Folder of a card, or the name of a card of var/cards.")]
UrlOption = Annotated[str, typer.Option("--url", metavar="URL", envvar="VOLET_URL",
                                        help="Server, https or http; the DMP's path is added to a bare address.")]
CaOption = Annotated[Path | None, typer.Option("--ca", metavar="FILE", dir_okay=False, exists=True,
                                               help="Trust anchors of the server (PEM). [pki/ca.pem beside the cards]")]
ModeOption = Annotated[AccessMode, typer.Option("--mode", metavar="|".join(AccessMode),
                                                help="Mode of access claimed by the VIHF.")]
ReasonOption = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why the glass is broken.")]
PatientOption = Annotated[str, typer.Option("--patient", metavar="INS",
                                            help="15 signs (test domain), or a whole CX: INS^^^&OID&ISO^NH.")]
LangOption = Annotated[Lang, typer.Option("--lang", envvar="VOLET_LANG", help="Language of what is shown.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Answer for programs.")]
DataOption = Annotated[Path, typer.Option("--data", metavar="DIR", envvar="VOLET_DATA",
                                          help="Folder that holds cards/.")]

URL = "https://127.0.0.1:8443"


def data_folder() -> Path:
    """Where bare names of cards are looked up."""
    return Path(os.environ.get("VOLET_DATA") or "var")


def endpoint_of(card: str, url: str, ca: Path | None, mode: AccessMode = AccessMode.NORMAL, reason: str = ""
                ) -> Endpoint:
    """The server as that card calls it; wrong usage when card, address, anchors or reason cannot be used."""
    if bool(reason.strip()) != (mode is AccessMode.BRIS_DE_GLACE) and mode is not AccessMode.CENTRE_15:
        raise typer.BadParameter(f"--reason goes with --mode {AccessMode.BRIS_DE_GLACE}, which needs it",
                                 param_hint="--reason")
    loaded, base = load(card), checked_url(url)
    return Endpoint(base, loaded, _anchors(loaded, ca) if base.startswith("https:") else None, Access(mode, reason))


def load(card: str) -> Card:
    """The card of an option."""
    try:
        return load_card(find_folder(card, data_folder()))
    except CardError as error:
        raise typer.BadParameter(str(error), param_hint="--card") from error


def checked_url(url: str) -> str:
    """An http or https address with a host."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in {"http", "https"} and parts.hostname and (parts.port is None or parts.port)
    except ValueError:  # a port that is none
        right = False
    if not right:
        raise typer.BadParameter(f"{url!r} is no address like {URL} or http://127.0.0.1:8080", param_hint="--url")
    return url


def _anchors(card: Card, ca: Path | None) -> Path:
    path = ca or pki_beside(card.folder) / "ca.pem"
    if not path.is_file():
        raise typer.BadParameter(f"{path} is not there: name the trust anchors of the server", param_hint="--ca")
    return path


def pki_beside(folder: Path) -> Path:
    """`DATA/pki` of a card in `DATA/cards/NAME`."""
    return folder.absolute().parent.parent / "pki"


def patient_of(text: str) -> str:
    """The CX of an INS: 15 signs are one of the test domain; wrong usage for anything that is no CX with authority."""
    if _INS.fullmatch(text):
        return str(CX(text, authority=HD("", _TEST_NIR, "ISO"), type_code="NH"))
    try:
        parsed = CX.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"15 signs, or INS^^^&OID&ISO^NH: {error}", param_hint="--patient") from error
    if parsed.authority.universal_id_type != "ISO":
        raise typer.BadParameter("15 signs, or INS^^^&OID&ISO^NH with its OID", param_hint="--patient")
    return str(parsed)


def dtm_of(moment: datetime | None) -> str:
    """A local time as DTM in UTC; "" for none."""
    return str(DTM.of(moment.astimezone())) if moment else ""
