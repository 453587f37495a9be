"""What a server received and answered: its journal over plain HTTP, as `GET /api/journal` gives it."""

from __future__ import annotations

from typing import Any

import requests

from volet.client.exchange import RULES, connect, describe, reaching
from xds.findings import Refused, Where

NOT_A_JOURNAL = RULES["V-VOLET-CLIENT-NOT-A-JOURNAL"]

_PATH = "/api/journal"
_TIMES = (10.0, 60.0)


def fetch(base: str, limit: int, since: str = "", verdict: str = "", name: str = "") -> list[dict[str, Any]]:
    """Exchanges after the cursor `since` (a "transaction"), oldest first, the newest `limit` of them."""
    url = base.rstrip("/") + _PATH
    asked = {"limit": str(limit), "since": since, "verdict": verdict, "name": name}
    with reaching(url), connect(url) as session, session.get(
            url, params={key: value for key, value in asked.items() if value}, timeout=_TIMES, stream=True,
            allow_redirects=False) as response:
        return _exchanges(response, url)


def _exchanges(response: requests.Response, url: str) -> list[dict[str, Any]]:
    is_json = response.headers.get("Content-Type", "").startswith("application/json")
    rows = response.json() if response.status_code == requests.codes.ok and is_json else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        shown = f"HTTP {response.status_code}, {type(rows).__name__}" if rows is not None else describe(response)
        raise Refused(NOT_A_JOURNAL.at(Where("HTTP", path=url), expected="[{\"transaction\", \"time\", …}]",
                                       received=shown))
    return rows
