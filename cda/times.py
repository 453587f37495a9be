"""HL7 v3 times (TS) to the DTM of XDS metadata (HL7 V3 data types R1 §2.7.2; ITI TF-3 §4.2.3.1.7)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_TS = re.compile(r"([0-9]{4}(?:[0-9]{2}){0,5})(?:\.[0-9]{1,9})?([+-][0-9]{4})?")
_FIELDS = "%Y%m%d%H%M%S"


def to_utc(time: str) -> str:
    """UTC in DTM form, at the precision written; "" when the text is no time.

    Dates stay as they are: a day has no time zone. A time without zone is kept as if UTC (see `lacks_zone`).
    """
    found = _TS.fullmatch(time)
    moment = _moment(found.group(1)) if found else None
    if found is None or moment is None:
        return ""
    digits, zone = found.groups()
    if zone is None or len(digits) < 10:
        return digits
    return _shifted(moment, zone, len(digits))


def lacks_zone(time: str) -> bool:
    """Whether a time of day is told without its offset from UTC, so that nobody else can tell when it was."""
    found = _TS.fullmatch(time)
    return found is not None and len(found.group(1)) > 8 and found.group(2) is None


def date_of(time: str) -> str:
    """The date alone, at the precision written; "" when the text is no time. Of a birth: never moved to UTC."""
    found = _TS.fullmatch(time)
    return found.group(1)[:8] if found and _moment(found.group(1)) else ""


def _moment(digits: str) -> datetime | None:
    full = digits + "00000101000000"[len(digits):]
    try:
        return datetime.strptime(full, _FIELDS)
    except ValueError:
        return None


def _shifted(moment: datetime, zone: str, precision: int) -> str:
    hours, minutes = int(zone[1:3]), int(zone[3:])
    if hours > 14 or minutes > 59:
        return ""
    offset = timedelta(hours=hours, minutes=minutes)
    if precision == 10 and minutes:
        precision = 12  # an hour shifted by half an hour can only be told with its minutes
    try:
        shifted = moment + offset if zone[0] == "-" else moment - offset
    except OverflowError:
        return ""
    return f"{shifted.year:04}{shifted:%m%d%H%M%S}"[:precision]
