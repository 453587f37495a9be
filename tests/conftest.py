"""Fixtures that tests of several rooms share."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from security.pki import create, load_specs

# A busy machine fails no test.
settings.register_profile("volet", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("volet")


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like `var/`: `pki/` (test anchors, lists, server) and `cards/`, every card of `cards.toml`.

    Made once and shared: who wants to revoke or add a card makes a PKI of his own.
    """
    folder = tmp_path_factory.mktemp("var")
    create(folder, load_specs(), datetime.now(UTC))
    return folder
