"""One server for most stories, others made to measure, and clients with the cards of the house."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stories.client import Card, Client
from tests.stories.ihe import SCHEME
from tests.stories.process import Server, descendants, free_ports, prepare


@pytest.fixture(scope="session")
def make_server(pki: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start further servers (`prepare`'s arguments); each is stopped at the end, and its processes must all be gone."""
    servers: list[Server] = []

    def start(name: str = "server", *arguments: str, **settings: Any) -> Server:
        server = prepare(tmp_path_factory.mktemp(name), pki, "--init", *arguments, **settings)
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        if server.process is not None and server.process.poll() is None:
            family = [server.process.pid, *descendants(server.process.pid)]
            assert server.stop() == 0, server.log.read_text("utf-8")
            assert len(family) > 2
        server.clear()


@pytest.fixture(scope="session")
def server(make_server: Callable[..., Server]) -> Server:
    """The server of most stories: profile `dmp`, mode `test`, as `make run` starts it."""
    return make_server("dmp")


@pytest.fixture(scope="session")
def ihe(make_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server of plain IHE rules, with a patient feed over MLLP and one list of codes that is closed."""
    affinity = tmp_path_factory.mktemp("affinity") / "affinity.toml"
    affinity.write_text(f"""
name = "plans"
repository_unique_id = "2.25.138716590826173408251735186201"
[codes.associationDocumentation]
complete = true
scheme = "{SCHEME}"
codes = ["transformed"]
""")
    return make_server("ihe", "--profile", "ihe", affinity=str(affinity), mllp=f"127.0.0.1:{free_ports(1)[0]}")


@pytest.fixture(autouse=True)
def _no_error_in_the_log(request: pytest.FixtureRequest) -> Iterator[None]:
    """Whatever a story does to a server, it must not be surprised."""
    servers: list[Server] = [request.getfixturevalue(name) for name in ("server", "ihe")
                             if name in request.fixturenames]
    before = [len(server.errors_logged()) for server in servers]
    yield
    for server, number in zip(servers, before, strict=True):
        assert server.errors_logged()[number:] == [], server.log.read_text("utf-8")[-20_000:]


@pytest.fixture(scope="session")
def cards(server: Server) -> Callable[[str], Card]:
    """A card by name, read once."""
    return functools.cache(lambda name: Card(server.data / "cards" / name))


@pytest.fixture(scope="session")
def as_card(server: Server, cards: Callable[[str], Card]) -> Callable[..., Client]:
    """A client with a card by name; more as in `Client`."""
    return lambda name, **more: Client(server, cards(name), **more)
