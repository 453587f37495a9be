"""One message pushed to whoever asked for it: a POST, no redirects, no proxies, bounded in time and in what is read."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests
from requests.structures import CaseInsensitiveDict

from journal.deliveries import Delivery

CONNECT_SECONDS, SILENT_SECONDS = 5.0, 20.0  # to connect; between two pieces of an answer
ANSWER_SECONDS, ANSWER_BYTES = 30.0, 64 * 1024  # what is read of an answer, in all
_PIECE = 8 * 1024


@dataclass(frozen=True, slots=True)
class Way:
    """How to get there: trust anchors (None: the system's), our own certificate with its key (None: none)."""

    ca: Path | None = None
    certificate: Path | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it. `error` "": it was taken; `reached`: somebody answered."""

    error: str = ""
    reached: bool = True
    answer: bytes = b""


def send(delivery: Delivery, body: Iterator[bytes], way: Way) -> Outcome:
    """Send a message; whatever happens is an outcome."""
    message = delivery.message
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxies, no netrc: the operator's list says whom we call, and nobody else
            session.headers = CaseInsensitiveDict({"User-Agent": "volet", "Accept": "application/soap+xml, */*"})
            with session.post(
                    message.address, data=_Body(body, delivery.length), headers={"Content-Type": message.content_type},
                    stream=True, allow_redirects=False, timeout=(CONNECT_SECONDS, SILENT_SECONDS),
                    verify=str(way.ca) if way.ca else True,
                    cert=str(way.certificate) if way.certificate else None) as response:
                return _outcome(response)
    except OSError as error:  # which all errors of the library are
        return Outcome(_described(error), reached=False)


def _outcome(response: requests.Response) -> Outcome:
    """2xx is a yes (an empty 202 as a rule); what an answer says beside that is for the journal."""
    answer = _read(response)
    if 200 <= response.status_code < 300:
        return Outcome(answer=answer)
    where = f" ({response.headers['Location'][:100]}, not followed)" if "Location" in response.headers else ""
    return Outcome(f"HTTP {response.status_code} {response.reason}{where}", answer=answer)


def _read(response: requests.Response) -> bytes:
    """The beginning of the answer; who goes on for ever is not listened to."""
    found, limit = bytearray(), time.monotonic() + ANSWER_SECONDS
    with suppress(OSError):  # the status has been heard: how the rest ends changes nothing
        for piece in response.iter_content(_PIECE):
            found += piece
            if len(found) >= ANSWER_BYTES or time.monotonic() > limit:
                break
    return bytes(found[:ANSWER_BYTES])


def _described(error: OSError) -> str:
    """The innermost cause, in a line."""
    cause: BaseException = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    return f"{type(cause).__name__}: {cause}"[:300]


class _Body:
    """A body of known length: it is announced, not chunked."""

    def __init__(self, pieces: Iterator[bytes], length: int) -> None:
        self._pieces, self._length = pieces, length

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces
