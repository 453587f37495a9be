"""One message to a server and its answer, over TLS with the card; documents are streamed both ways.

Refused     nobody answers, or what answers cannot be read (findings of `volet` and `xds`)
Rejected    the server understood and refused (`volet.client.answers`)
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from repository.spool import Message, Received, receive
from volet.client.answers import Rejected, of_fault
from volet.client.card import Access, Card, vihf_header
from xds.findings import Catalogue, Finding, Refused, Rule, Where
from xds.messages import TRANSACTIONS, Transaction
from xds.mtom import Limits, Part, write_related
from xds.soap import new_message_id, read_envelope, read_fault, write_request
from xds.xml import Element

RULES = Catalogue("volet")
UNREACHABLE = RULES["V-VOLET-CLIENT-UNREACHABLE"]
SILENT = RULES["V-VOLET-CLIENT-SILENT"]
CUT = RULES["V-VOLET-CLIENT-CUT"]
SERVER_CERTIFICATE = RULES["V-VOLET-CLIENT-SERVER-CERTIFICATE"]
NO_TLS = RULES["V-VOLET-CLIENT-NO-TLS"]
CARD_REFUSED = RULES["V-VOLET-CLIENT-CARD-REFUSED"]
NOT_SOAP = RULES["V-VOLET-CLIENT-NOT-SOAP"]

#: The DMP's own address of its services; a base address that has a path of its own is taken as it is
SERVICES = "/si-dmp-server/v2/services"
#: Service of each transaction
SERVICE = {"ITI-18": "registry", "ITI-41": "repository", "ITI-43": "repository"}

_TIMES = (10.0, 300.0)  # seconds to connect, and between two pieces of an answer
_CHUNK = 64 * 1024
# Of an answer: as many documents as were asked for, and bytes; what is large goes to disk.
_LIMITS = Limits(parts=100_000, part=1 << 30, total=4 << 30)
#: Media types of a SOAP answer, whole or with documents beside it
SOAP_TYPES = frozenset({"multipart/related", "application/soap+xml", "application/xop+xml", "text/xml",
                        "application/xml"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Which server, as whom. `base` is http or https; `ca` the trust anchors (PEM) of the server, for https."""

    base: str
    card: Card
    ca: Path | None = None
    access: Access = field(default_factory=Access)

    def address(self, transaction: str) -> str:
        """Where a transaction is sent."""
        services = self.base.rstrip("/") + ("" if urlsplit(self.base).path.strip("/") else SERVICES)
        return f"{services}/{SERVICE[transaction]}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request: name of the transaction, patient (CX) for the VIHF, body as XML text, documents beside it."""

    transaction: str
    patient: str
    body: str
    parts: Sequence[Part] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """MessageID of the request, body of the answer, documents that came beside it by Content-ID."""

    message_id: str
    body: Element
    parts: Mapping[str, Received] = field(default_factory=dict)


@contextmanager
def exchange(endpoint: Endpoint, call: Call) -> Iterator[Answer]:
    """Send a request and read its answer, whose documents last as long as the block."""
    url, transaction, message_id = endpoint.address(call.transaction), TRANSACTIONS[call.transaction], new_message_id()
    security = vihf_header(endpoint.card, call.patient, endpoint.access, datetime.now(UTC))
    envelope = write_request(call.body, transaction.action, url, message_id, security)
    with tempfile.TemporaryDirectory(prefix="volet-") as folder:
        message = _send(endpoint, url, _package(envelope, call, transaction), Path(folder))
        with message:
            read = read_envelope(message.root, content_action=message.action, charset=message.charset)
            fault = read_fault(read.body)
            if fault is not None:
                raise Rejected(of_fault(fault), message_id)
            yield Answer(message_id, read.body, message.parts)


class _Body:
    """A request body of known length: requests then announces it rather than chunking."""

    def __init__(self, pieces: Iterator[bytes], length: int) -> None:
        self._pieces, self._length = pieces, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


def _package(envelope: bytes, call: Call, transaction: Transaction) -> tuple[str, Any]:
    """Content-Type and body."""
    if not transaction.mtom:
        return f'application/soap+xml; charset=UTF-8; action="{transaction.action}"', envelope
    content_type, pieces, length = write_related(envelope, call.parts, transaction.action)
    return content_type, _Body(pieces, length)


def _send(endpoint: Endpoint, url: str, package: tuple[str, Any], folder: Path) -> Message:
    over_tls = url.startswith("https:")
    with reaching(url, str(endpoint.ca or "")), connect(url) as session, session.post(
            url, data=package[1], headers={"Content-Type": package[0]}, timeout=_TIMES, stream=True,
            allow_redirects=False, cert=endpoint.card.tls_files if over_tls else None,
            verify=str(endpoint.ca) if over_tls and endpoint.ca else True) as response:
        content_type = response.headers.get("Content-Type", "")
        if content_type.partition(";")[0].strip().lower() not in SOAP_TYPES:
            raise Refused(NOT_SOAP.at(Where("HTTP", path=url), expected="SOAP 1.2", received=describe(response)))
        return receive(content_type, response.iter_content(_CHUNK), folder, _LIMITS)


def describe(response: requests.Response) -> str:
    """What a response that nobody expected is: status, type, first words."""
    content_type = response.headers.get("Content-Type", "–")
    first = next(response.iter_content(200), b"").decode("utf-8", "replace")
    return f"HTTP {response.status_code} {response.reason}, {content_type}: {' '.join(first.split())}"


# --- what can go wrong on the way ----------------------------------------------------------------------------------


def connect(url: str) -> requests.Session:
    """A session; proxies of the environment are for other machines than this one."""
    session, host = requests.Session(), urlsplit(url).hostname or ""
    session.trust_env = not (host in {"localhost", "::1"} or host.startswith("127."))
    return session


@contextmanager
def reaching(url: str, ca: str = "") -> Iterator[None]:
    """Turn what the HTTP library raises into `Refused` with one finding that says what to do."""
    try:
        yield
    except requests.RequestException as error:
        raise Refused(_diagnose(error, url, ca)) from error


# How OpenSSL says it -> rule. "ALERT" comes last: it stands in what the other side says of our certificate.
_TLS_SIGNS: tuple[tuple[str, Rule], ...] = (
    ("CERTIFICATE_VERIFY_FAILED", SERVER_CERTIFICATE), ("WRONG_VERSION_NUMBER", NO_TLS),
    ("RECORD_LAYER_FAILURE", NO_TLS), ("PACKET_LENGTH_TOO_LONG", NO_TLS), ("KEY_VALUES_MISMATCH", CARD_REFUSED),
    # TLS 1.3: a server that refuses the card may hang up on the request before its alert is read
    ("EOF", CUT), ("ALERT", CARD_REFUSED),
)


def _diagnose(error: requests.RequestException, url: str, ca: str) -> Finding:
    cause, place = _root(error), Where("HTTP", path=url)
    shown = str(cause) or type(cause).__name__
    if isinstance(cause, ssl.SSLError) or isinstance(error, requests.exceptions.SSLError):
        rule = next((rule for sign, rule in _TLS_SIGNS if sign in shown), SERVER_CERTIFICATE)
        return rule.at(place, expected=ca if rule is SERVER_CERTIFICATE else "", received=shown, address=url)
    if isinstance(error, requests.Timeout) and not isinstance(error, requests.ConnectTimeout):
        return SILENT.at(place, expected=f"≤ {_TIMES[1]:.0f} s", received=shown, address=url)
    if isinstance(cause, ConnectionResetError | BrokenPipeError) or not isinstance(error, requests.ConnectionError):
        return CUT.at(place, received=shown, address=url)
    return UNREACHABLE.at(place, received=shown, address=url)


def _root(error: BaseException) -> BaseException:
    """The innermost error: the library wraps what the system said several times."""
    for _ in range(10):
        inner = getattr(error, "reason", None)
        carried = [item for item in (inner, *error.args) if isinstance(item, BaseException)]
        deeper = carried[0] if carried else error.__cause__ or error.__context__
        if deeper is None:
            break
        error = deeper
    return error
