"""Real servers for the stories: `volet serve` a tree of processes on free ports over a data folder of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from journal.database import Database
from volet.settings import Settings

ROOT = Path(__file__).parents[2]
VOLET = (sys.executable, "-c", "from volet.cli import main; main()")
START_SECONDS, STOP_SECONDS = 60, 40
#: Tables whose rows a refusal must not change
KEPT_TABLES = ("submission_set", "document", "folder", "association", "identifier_claim", "object_code", "object_text",
               "outbox", "patient", "patient_identifier", "record", "authorisation")


@dataclass
class Server:
    """One server and where it listens."""

    data: Path
    https: str
    http: str
    environment: Mapping[str, str]
    arguments: Sequence[str] = ()
    process: subprocess.Popen[bytes] | None = None
    children: list[int] = field(default_factory=list)

    @property
    def log(self) -> Path:
        """What the server wrote to its standard output and error."""
        return self.data / "server.log"

    @property
    def settings(self) -> Settings:
        """The settings it runs with."""
        return Settings(data=self.data)

    def url(self, path: str = "", door: str = "https") -> str:
        """An address of one of its doors."""
        return f"{door}://{self.https if door == 'https' else self.http}{path}"

    # Life

    def start(self) -> Server:
        """Start and wait until every door is open."""
        command = [*VOLET, "serve", "--data", str(self.data), "--https", self.https, *self.arguments]
        command += ["--http", self.http] if self.http else []
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=dict(self.environment), stdout=log, stderr=log,
                                            start_new_session=True)
        limit = time.monotonic() + START_SECONDS
        while not (self._is_ready() and self._says_so()):
            if self.process.poll() is not None or time.monotonic() > limit:
                self.kill()
                raise AssertionError(f"the server did not start:\n{self.log.read_text('utf-8')}")
            time.sleep(0.05)
        self.children = descendants(self.process.pid)
        return self

    def stop(self) -> int:
        """Stop it as an operator does; returns its exit status. No process of it may be left."""
        assert self.process is not None
        family = [self.process.pid, *descendants(self.process.pid)]
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
            wait_until(lambda: not alive(family[1:]), 5, "the server's processes to end")
        finally:
            self.kill(family)
        return status

    def kill(self, family: Sequence[int] = ()) -> None:
        """Kill all its processes at one blow: frozen first, so that none sees another die."""
        assert self.process is not None
        family = family or [self.process.pid, *descendants(self.process.pid)]
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
        self.process.wait()
        wait_until(lambda: not alive(family), 5, "killed processes to end")

    def clear(self) -> None:
        """Remove its thousands of folders of documents; database and log stay for whoever wants to look."""
        shutil.rmtree(self.data / "documents", ignore_errors=True)

    def _is_ready(self) -> bool:
        if not self.http:
            return listens(self.https)
        with contextlib.suppress(requests.ConnectionError):
            return listens(self.https) and requests.get(self.url("/readyz", "http"), timeout=5).status_code == 200
        return False

    def _says_so(self) -> bool:
        return b"data in" in self.log.read_bytes()

    # What it holds

    def journal(self, since: str = "0", **filters: Any) -> list[dict[str, Any]]:
        """Exchanges after a cursor, oldest first."""
        answer = requests.get(self.url("/api/journal", "http"), timeout=10,
                              params={"limit": 1000, "since": since, **filters})
        answer.raise_for_status()
        return list(answer.json())

    def last_exchange(self) -> dict[str, Any]:
        """The exchange recorded last."""
        return self.journal()[-1]

    def files(self) -> frozenset[str]:
        """Every file in the documents folder, what is just coming in included."""
        folders = os.scandir(self.data / "documents")
        return frozenset(f"{folder.name}/{name}" for folder in folders for name in os.listdir(folder.path))

    def incoming(self) -> list[str]:
        """Files that are just coming in."""
        return os.listdir(self.data / "documents" / "incoming")

    def rows(self) -> tuple[int, ...]:
        """Number of rows of each table."""
        return self.query(f"SELECT {', '.join(f'(SELECT count(*) FROM {table})' for table in KEPT_TABLES)}")[0]

    def kept(self) -> tuple[frozenset[str], tuple[int, ...]]:
        """All that a refusal must leave as it was."""
        return self.files(), self.rows()

    def query(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of the server's database, read beside it."""
        connection = sqlite3.connect(f"file:{self.data / 'volet.db'}?mode=ro", uri=True, timeout=10)
        with contextlib.closing(connection):
            return connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def database(self) -> Iterator[Database]:
        """The server's database, for what no message can bring about yet."""
        database = Database(self.settings.database_url)
        try:
            yield database
        finally:
            database.close()

    def errors_logged(self) -> list[str]:
        """Lines of the log that tell of an error nobody expected."""
        signs = ("Traceback", '"internal"', "[ERROR]", "[CRITICAL]")
        return [line for line in self.log.read_text("utf-8", "replace").splitlines()
                if any(sign in line for sign in signs)]

    def memory(self) -> int:
        """Resident bytes of all its processes, what they share counted in each."""
        return sum(resident(pid) for pid in descendants(self.process.pid if self.process else 0))


def prepare(folder: Path, pki: Path, *arguments: str, http: bool = True, **settings: str) -> Server:
    """A server, not started yet, over a new folder with a copy of a PKI; `settings` become VOLET_* variables."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("pki", "cards"):
        shutil.copytree(pki / name, folder / name, symlinks=True)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOLET_")}
    environment |= {f"VOLET_{name.upper()}": value for name, value in settings.items()}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    http_port, https_port = free_ports(2)
    return Server(folder, f"127.0.0.1:{https_port}", f"127.0.0.1:{http_port}" if http else "", environment, arguments)


# --- processes -------------------------------------------------------------------------------------------------------


def free_ports(number: int) -> list[int]:
    """Ports nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def listens(address: str) -> bool:
    """Whether somebody takes connections there."""
    host, _, port = address.rpartition(":")
    with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
        return True
    return False


def descendants(pid: int) -> list[int]:
    """Children, their children and so on, of a process."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state = (entry / "stat").read_text().rpartition(")")[2].split()
                parents.setdefault(int(state[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        waiting = [child for parent in waiting for child in parents.get(parent, [])]
        found += waiting
    return found


def alive(pids: Sequence[int]) -> list[int]:
    """Those of the processes that still run; a zombie does not."""
    found = []
    for pid in pids:
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


def resident(pid: int) -> int:
    """Resident bytes of a process, 0 when it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return 0


def wait_until(condition: Any, seconds: float, what: str) -> None:
    """Wait for a condition; AssertionError when it does not come about."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, f"waited {seconds} s for {what}"
        time.sleep(0.02)
