"""The official example documents of the CI-SIS, whole: each is fed, found and retrieved as it was published."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cda.derive import derive
from dmp import matrices, record
from dmp.record import Authorisation, Record
from registry import patients
from registry.patients import Traits
from tests.stories.client import Card, Client
from tests.stories.process import ROOT, Server
from xds import hl7
from xds.model import DocumentEntry

FOLDER = ROOT.parent / "shared" / "data" / "cda"
DOCUMENTS = sorted(FOLDER.glob("*.xml"))
TEST_INS = {"1.2.250.1.213.1.4.10", "1.2.250.1.213.1.4.11"}
PRODUCTION_INS = "1.2.250.1.213.1.4.8"

pytestmark = pytest.mark.skipif(not DOCUMENTS, reason="the official example documents are not at hand")


@pytest.fixture(scope="module")
def official(make_server: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory) -> Server:
    """The affinity domain of the DMP, with the INS of production: some of the examples use it for fictitious people."""
    text = (ROOT / "dmp" / "affinity.toml").read_text("utf-8")
    path = tmp_path_factory.mktemp("affinity") / "affinity.toml"
    path.write_text(text.replace('"1.2.250.1.213.1.4.11"]', f'"1.2.250.1.213.1.4.11", "{PRODUCTION_INS}"]'), "utf-8")
    assert PRODUCTION_INS in path.read_text("utf-8")
    return make_server("official", affinity=str(path))


@pytest.fixture(scope="module")
def feeder(official: Server) -> Client:
    return Client(official, Card(official.data / "cards" / "hopital"))


@pytest.fixture(scope="module")
def reader(official: Server) -> Client:
    return Client(official, Card(official.data / "cards" / "medecin"))


def open_record(server: Server, patient: str, card: Card) -> None:
    """What identity feed, opening of a record and TD0.3 do: the patient, a record, a doctor who may read it."""
    with server.database() as database, database.write() as connection:
        found = patients.feed(connection, [patient], Traits("EXEMPLE", "OFFICIEL"))
        if record.read(connection, found.id) is None:
            record.write(connection, Record(found.id))
        record.grant(connection, found.id, card.facts["identifier"], Authorisation(record.VALID))


@pytest.fixture(scope="module")
def retrieved(official: Server, feeder: Client, reader: Client) -> dict[str, tuple[DocumentEntry, bytes]]:
    """Every example fed in lots of one patient's; what the doctor then finds and retrieves, by uniqueId."""
    assert reader.card is not None
    of_patient: dict[str, list[bytes]] = {}
    for path in DOCUMENTS:
        content = path.read_bytes()
        of_patient.setdefault(derive(content).patient_id, []).append(content)
    outcome: dict[str, tuple[DocumentEntry, bytes]] = {}
    for patient, contents in of_patient.items():
        open_record(official, patient, reader.card)
        for at in range(0, len(contents), 12):
            _, reply = feeder.feed(*contents[at:at + 12])
            assert (reply.status, reply.errors) == ("Success", []), reply.findings
        found = reader.find(patient).documents
        back = reader.retrieve(patient, *found).contents
        outcome |= {entry.unique_id: (entry, back[entry.unique_id]) for entry in found}
    return outcome


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_fed_found_and_retrieved(retrieved: dict[str, tuple[DocumentEntry, bytes]], path: Path) -> None:
    content = path.read_bytes()
    wanted = derive(content)
    assert wanted.type_code is not None
    if wanted.type_code.code not in matrices.documents().readers:
        assert wanted.unique_id not in retrieved  # a type that the matrix does not name is read by nobody
        return
    entry, back = retrieved[wanted.unique_id]
    assert back == content
    assert (entry.size, entry.hash, entry.patient_id) == (str(len(content)), wanted.hash, wanted.patient_id)
    assert (entry.type_code, entry.class_code, entry.title) == (wanted.type_code, wanted.class_code, wanted.title)


def test_most_examples_are_of_test_patients() -> None:
    """How many use the INS of production; those are refused by a server with the usual affinity domain, below."""
    authorities = [hl7.CX.parse(derive(path.read_bytes()).patient_id).authority.universal_id for path in DOCUMENTS]
    assert set(authorities) <= TEST_INS | {PRODUCTION_INS}
    assert sum(authority in TEST_INS for authority in authorities) >= 50


def test_an_ins_of_production_is_refused_on_a_test_server(server: Server, as_card: Callable[..., Client]) -> None:
    path = next(path for path in DOCUMENTS if f"&{PRODUCTION_INS}&" in derive(path.read_bytes()).patient_id)
    client, content, kept = as_card("hopital"), path.read_bytes(), server.kept()
    _, reply = client.feed(content)
    assert reply.errors == ["XDSUnknownPatientId"]
    assert server.kept() == kept
    # Even with a record: the affinity domain says whose numbers count here.
    patient = derive(content).patient_id
    open_record(server, patient, client.card)  # type: ignore[arg-type]
    _, reply = client.feed(content)
    assert (reply.errors, reply.findings) == (["XDSUnknownPatientId"], ["V-REG-PATIENT-AUTHORITY"])
