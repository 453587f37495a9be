"""Fixtures that tests of several rooms share."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from security.pki import create, load_specs


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `var/`: `pki/` (test anchors, lists, server) and `cards/`, every card of `cards.toml`.

    Made once and shared: who wants to revoke or add a card makes a PKI of his own.
    """
    folder = tmp_path_factory.mktemp("var")
    create(folder, load_specs(), datetime.now(UTC))
    return folder
