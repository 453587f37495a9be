"""Who is calling at the SOAP door, profile by profile and mode by mode."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from security.cards import load_chain
from volet import initial, soap
from volet.assembly import build
from volet.settings import Settings
from xds import messages
from xds.messages import AdhocQuery
from xds.rim import Slot
from xds.soap import new_message_id, read_envelope, read_fault, write_request

ACTION = messages.TRANSACTIONS["ITI-18"].action
QUERY = AdhocQuery("urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4",
                   slots=(Slot("$XDSDocumentEntryUniqueId", ("('1.2.3')",)),))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data folder made once."""
    folder = tmp_path_factory.mktemp("identify")
    initial.init(Settings(data=folder))
    return folder


def ask(data, card, **settings):
    """Fault of an ITI-18 over TLS with a card, None when it was answered; and the HTTP status."""
    server = build(Settings(data=data, profile="ihe", **settings))
    der = None
    if card:
        leaf = load_chain((data / "cards" / card / "auth.pem").read_bytes())[0]
        der = leaf.public_bytes(Encoding.DER)
    body = write_request(messages.write_query(QUERY), ACTION, "https://localhost/", new_message_id())
    response = soap.handle(soap.Request(f'application/soap+xml; action="{ACTION}"', [body], "https", der), "registry",
                           server)
    server.close()
    return read_fault(read_envelope(b"".join(response.body)).body), response.status


def codes(fault):
    return [finding["code"] for finding in fault.findings]


def test_plain_ihe_takes_anybody_in_test_mode(data):
    assert ask(data, "")[0] is None
    assert ask(data, "revoked")[0] is None


def test_plain_ihe_asks_for_a_good_card_where_the_handshake_refuses(data):
    strict = {"client_certificate": "handshake"}
    assert ask(data, "medecin", **strict)[0] is None
    assert codes(ask(data, "", **strict)[0]) == ["V-VOLET-NO-CERTIFICATE"]
    assert codes(ask(data, "revoked", **strict)[0]) == ["V-SEC-CRL-REVOKED"]


@pytest.mark.parametrize("status", [400, 500])
def test_status_of_sender_faults_is_a_setting(data, status):
    assert ask(data, "", client_certificate="handshake", sender_fault_status=status)[1] == status
