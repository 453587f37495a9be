"""Audit messages in transit, as bytes: a syslog message (RFC 5424) in a TLS frame (RFC 5425), as ITI-20 wants them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal

from security.audit import instant

MessageId = Literal["IHE+RFC-3881", "DICOM+RFC3881"]

FACILITY = 10  # security and authorisation messages (ITI TF-2 §3.20.4.1.2)
NOTICE, WARNING = 5, 4  # severities: normal but significant; something went wrong
_BOM = b"\xef\xbb\xbf"  # RFC 5424 §6.4: what follows is UTF-8
_NOT_PRINTABLE = re.compile("[^!-~]")


def write(message: bytes, at: datetime, host: str, process: str, message_id: MessageId = "IHE+RFC-3881",
          severity: int = NOTICE, application: str = "volet") -> bytes:
    """A syslog message around UTF-8 content; no structured data."""
    header = " ".join((f"<{FACILITY * 8 + severity}>1", instant(at), _name(host, 255), _name(application, 48),
                       _name(process, 128), message_id, "-"))
    return header.encode("ascii") + b" " + _BOM + message


def frame(message: bytes) -> bytes:
    """Octet counting (RFC 5425 §4.3): length, blank, message."""
    return b"%d " % len(message) + message


def _name(text: str, longest: int) -> str:
    """PRINTUSASCII of a header field, "-" for nothing."""
    return _NOT_PRINTABLE.sub("", text)[:longest] or "-"
