"""A PostgreSQL server of one's own for a while: what is right on one writer must be right on many."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """Folder of initdb and postgres: on the path, or where Debian puts them."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of a fresh, empty database, reached by a socket in a folder of its own."""
    folder, found = Path(tempfile.mkdtemp(prefix="volet-pg-")), binaries()
    if found is None or importlib.util.find_spec("psycopg") is None:
        pytest.skip("needs PostgreSQL's initdb and postgres, and the library psycopg")
    user = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        user = next((entry for entry in pwd.getpwall() if entry.pw_name == "postgres"), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    identity = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    made = [found / "initdb", "-D", folder / "data", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8"]
    subprocess.run(made, check=True, capture_output=True, cwd=folder, **identity)
    options = ["-D", folder / "data", "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([found / "postgres", *options], cwd=folder, stdout=log, stderr=log, **identity)
    try:
        _wait(folder, server)
        yield f"postgresql+psycopg://postgres@/postgres?host={folder}"
    finally:
        server.terminate()
        server.wait(30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(folder: Path, server: subprocess.Popen[bytes]) -> None:
    import psycopg

    for _ in range(200):
        assert server.poll() is None, (folder / "log").read_text()
        try:
            psycopg.connect(host=str(folder), user="postgres", dbname="postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError((folder / "log").read_text())
