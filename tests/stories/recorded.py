"""Run by `test_durability` under strace: answers the requests of a folder, one after the other, and says so in a file.

    python -m tests.stories.recorded DATA REQUESTS ANSWERS

A request is two files, `NN.type` (Content-Type) and `NN.body`; after each answer of status Success its number is
written to ANSWERS. Logs are folded and parts spooled long before they need be, so that this happens here too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from journal import database
from repository import spool
from volet import soap
from volet.assembly import build
from volet.settings import ProfileName, Settings


def main(data: str, requests: str, answers: str) -> None:
    """Answer everything."""
    database._WAL_LIMIT = 256 * 1024
    spool.IN_MEMORY = 8 * 1024
    server = build(Settings(data=Path(data), profile=ProfileName.IHE))
    marks = os.open(answers, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for path in sorted(Path(requests).glob("*.body")):
        content_type, body = path.with_suffix(".type").read_text(), path.read_bytes()
        response = soap.handle(soap.Request(content_type, [body], "http"), "repository", server)
        assert b"ResponseStatusType:Success" in b"".join(response.body)
        os.write(marks, f"{path.stem}\n".encode())
    server.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
