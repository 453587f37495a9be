"""The body of a request as it arrives: pieces, or the finding that says why it could not be received."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import ClientDisconnected, RequestEntityTooLarge

from repository.spool import chunks_of, inflated
from xds.findings import Catalogue, Refused, Where
from xds.xml import TOO_LARGE

RULES = Catalogue("volet")
BODY_CUT = RULES["V-VOLET-BODY-CUT"]
BODY_FRAMING = RULES["V-VOLET-BODY-FRAMING"]
CONTENT_ENCODING = RULES["V-VOLET-CONTENT-ENCODING"]

_WHERE = Where("body")
_ENCODINGS = ("gzip", "x-gzip", "identity")


def pieces_of(request: Request, limit: int) -> Iterator[bytes]:
    """Pieces of a body, its Content-Encoding undone, at most `limit` bytes; documents are never held as a whole."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower() or "identity"
    if encoding not in _ENCODINGS:
        raise Refused(CONTENT_ENCODING.at(Where("Content-Encoding"), expected=" | ".join(_ENCODINGS),
                                          received=encoding))
    pieces = _arriving(request, limit)
    yield from pieces if encoding == "identity" else inflated(pieces, limit)


def _arriving(request: Request, limit: int) -> Iterator[bytes]:
    """What the connection gives; a body shorter than announced is none (RFC 9112 §8)."""
    announced, received = request.content_length, 0
    try:
        for piece in chunks_of(request.stream.read):
            received += len(piece)
            yield piece
    except RequestEntityTooLarge as error:
        raise Refused(TOO_LARGE.at(_WHERE, expected=f"≤ {limit}", received=announced or f"> {limit}")) from error
    except ParseException as error:
        raise Refused(BODY_FRAMING.at(_WHERE, received=error)) from error
    except (OSError, ClientDisconnected) as error:
        raise Refused(BODY_CUT.at(_WHERE, expected=announced or "", received=received)) from error
    if announced is not None and received < announced:
        raise Refused(BODY_CUT.at(_WHERE, expected=announced, received=received))
