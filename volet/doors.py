"""Which door a request came through and whose certificate TLS saw; never taken from a header that a client can send."""

from __future__ import annotations

from flask import Request

HTTPS, HTTP = "https", "http"


def door_of(request: Request) -> str:
    """"https" when the connection itself is TLS."""
    return HTTPS if _has_tls(request) else HTTP


def peer_certificate(request: Request) -> bytes | None:
    """DER of the client's certificate on this very connection, None without one."""
    if not _has_tls(request):
        return None
    certificate: bytes | None = request.environ["gunicorn.socket"].getpeercert(True)
    return certificate


def _has_tls(request: Request) -> bool:
    return hasattr(request.environ.get("gunicorn.socket"), "getpeercert")
