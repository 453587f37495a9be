"""Listeners: one gunicorn arbiter for each address, workers assembled after the fork; all live and die together."""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import multiprocessing.connection
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication

from volet import mllp, notifier
from volet.app import create_app
from volet.assembly import build, migrate
from volet.settings import Settings, address
from volet.tls import TlsContext
from volet.worker import Worker

#: Seconds a request in progress is given when the server stops
GRACE = 30
START_SECONDS = 60
_PR_SET_PDEATHSIG = 1  # Linux, prctl(2)


class Listener(BaseApplication):  # type: ignore[misc]
    """One gunicorn arbiter."""

    def __init__(self, bind: str, settings: Settings, tls: bool) -> None:
        """Listen on `bind` ("HOST:PORT")."""
        self.bind, self.settings, self.tls = bind, settings, tls
        self._context: TlsContext | None = None
        super().__init__()

    def load_config(self) -> None:
        """Settings of gunicorn; its threaded worker hands over the peer certificate, ours bears with slow clients."""
        values: dict[str, Any] = {
            "bind": self.bind, "workers": self.settings.workers, "threads": self.settings.threads,
            "worker_class": Worker, "timeout": 120, "graceful_timeout": GRACE, "keepalive": 75,
            "limit_request_line": 2048, "limit_request_fields": 60, "limit_request_field_size": 8190,
            "loglevel": "warning", "proc_name": "volet", "control_socket_disable": True,
            "forwarded_allow_ips": "", "secure_scheme_headers": {},
        }
        if self.tls:
            pki = self.settings.data / "pki"
            values |= {"certfile": str(pki / "server.pem"), "keyfile": str(pki / "server.key"),
                       "ssl_context": self._ssl_context}
        known = self.cfg.settings
        for name, value in values.items():
            if name in known:
                self.cfg.set(name, value)

    def _ssl_context(self, _config: object, _default: object) -> TlsContext:
        """Gunicorn asks for every connection; one context a process serves them all."""
        if self._context is None:
            pki = self.settings.data / "pki"
            self._context = TlsContext(pki / "server.pem", pki / "server.key", pki / "ca.pem",
                                       self.settings.refuses_in_handshake)
        return self._context

    def load(self) -> Flask:
        """The application, in each worker."""
        return create_app(build(self.settings))


def serve(settings: Settings, ready: Callable[[], None]) -> int:
    """Migrate, start all listeners, wait; returns the exit status. `ready` is called once they are started."""
    for bind in (*(bind for bind, _ in _addresses(settings)), *([settings.mllp] if settings.mllp else [])):
        _check_free(bind)
    migrate(settings)
    server = build(settings)  # what would fail in every worker fails here, once, with its reason
    server.repository.store.sweep()
    server.close()
    children = [multiprocessing.Process(target=_run, args=(bind, settings, tls), name=bind)
                for bind, tls in _addresses(settings)]
    if settings.mllp:
        children.append(multiprocessing.Process(target=_run_mllp, args=(settings,), name=settings.mllp))
    if settings.push_addresses:
        children.append(multiprocessing.Process(target=notifier.run, args=(settings,), name="notifier"))
    for child in children:
        child.start()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: _stop(children))
    if _all_listen(children):
        ready()
    multiprocessing.connection.wait([child.sentinel for child in children])
    _stop(children)
    for child in children:
        child.join(GRACE + 5)
    return max((abs(child.exitcode or 0) for child in children), default=0)


def _addresses(settings: Settings) -> list[tuple[str, bool]]:
    """What is listened on: TLS always, plain HTTP in test mode and on loopback only."""
    found = [(settings.https, True)] if (settings.data / "pki" / "server.pem").exists() else []
    if settings.is_test and settings.http:
        host, _ = address(settings.http)
        if host not in {"127.0.0.1", "localhost", "::1"}:
            raise ValueError(f"http={settings.http}: plain HTTP is for loopback only")
        found.append((settings.http, False))
    return found


def _check_free(bind: str) -> None:
    """OSError when an address is taken: gunicorn would try on, and the other server's answers would look like ours."""
    host, port = address(bind)
    try:
        socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError as error:
        raise OSError(f"{bind}: {error.strerror}. Another server may be running there: stop it, or give another "
                      "address (--http, --https, VOLET_MLLP).") from error


def _all_listen(children: list[multiprocessing.Process]) -> bool:
    """Whether every address takes connections, within `START_SECONDS` and as long as no listener has died."""
    limit = time.monotonic() + START_SECONDS
    waiting = {child.name for child in children if ":" in child.name}  # the notifier listens to nobody
    while waiting and time.monotonic() < limit and all(child.is_alive() for child in children):
        waiting = {bind for bind in waiting if not _listens(bind)}
        time.sleep(0.05)
    return not waiting


def _listens(bind: str) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(address(bind), timeout=1):
        return True
    return False


def _run(bind: str, settings: Settings, tls: bool) -> None:
    os.setsid()  # Ctrl-C in the terminal reaches the parent, which stops the children in order
    _die_with_parent()
    sys.argv = ["volet"]
    Listener(bind, settings, tls).run()


def _run_mllp(settings: Settings) -> None:
    """The patient feed of HL7 v2 (ITI-8), until the parent says that it is enough."""
    os.setsid()
    _die_with_parent()
    enough = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: enough.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = build(settings)
    host, port = address(settings.mllp)
    listener = mllp.serve(host, port, mllp.feed_handler(server.services, server.journal))
    enough.wait()
    listener.close(GRACE)
    server.close()


def _die_with_parent() -> None:
    """A parent killed outright must not leave a server behind that nobody knows of and that holds the port."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _stop(children: list[multiprocessing.Process]) -> None:
    for child in children:
        if child.is_alive():
            child.terminate()
