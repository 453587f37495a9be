"""What a caller may not see does not exist for that caller: by no query, no identifier, no error message."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.stories.client import Client, Reply, make_lot, new_oid, signed
from tests.stories.ihe import STATUSES
from tests.stories.process import ROOT
from tests.stories.samples import CAMILLE, MARCEL, MASKING, document
from xds.messages import AdhocQuery, write_query
from xds.model import Association, Code, DocumentEntry, Folder
from xds.rim import Localized, Slot, localized
from xds.vocabulary import APND, HAS_MEMBER, RPLC, STABLE, XFRM

As = Callable[..., Client]
MASKED = Code("MASQUE_PS", "1.2.250.1.213.1.1.4.13", localized("Masqué aux professionnels de santé"))
QUERIES: dict[str, Any] = tomllib.loads((ROOT / "registry" / "stored_queries.toml").read_text("utf-8"))
PREFIXES = {"$XDSDocumentEntry": "document", "$XDSSubmissionSet": "set", "$XDSFolder": "folder"}


@dataclass(frozen=True)
class Secret:
    """A document with what is around it, as its author sees them: identifiers by kind, entryUUID and uniqueId."""

    patient: str
    content: bytes
    entry: DocumentEntry
    uuids: dict[str, str]
    unique_ids: dict[str, str]

    def is_told_by(self, reply: Reply) -> bool:
        """Whether anything of the document itself is in an answer."""
        signs = (self.uuids["document"], self.entry.unique_id, self.entry.hash, "SECRET-TITLE")
        return any(sign.encode() in reply.raw for sign in signs)


def feed_secret(client: Client, patient: str, masked: bool) -> Secret:
    """A document in a folder, perhaps masked, and an addendum to it which is not."""
    assert client.card is not None
    content = document(patient=patient)
    folder = Folder("Folder01", unique_id=new_oid(), patient_id=patient, title=(Localized("Dossier"),),
                    codes=(Code("essai", "1.2.250.1.999", localized("Essai")),))
    lot = make_lot(client.card, content, document("ordonnance.xml", patient), sign=False).having(
        lambda entry: replace(entry, title=(Localized("SECRET-TITLE"),), authors=(client.card.author,),  # type: ignore[union-attr]
                              confidentiality=(*entry.confidentiality, *([MASKED] if masked else []))))
    first, second = lot.documents
    the_set = lot.submission.submission_set.id
    inner = Association("InFolder", HAS_MEMBER, folder.id, first.id)
    links = (*lot.submission.associations, Association("F", HAS_MEMBER, the_set, folder.id), inner,
             Association("FI", HAS_MEMBER, the_set, inner.id), Association("Add", APND, second.id, first.id))
    lot = replace(lot, submission=replace(lot.submission, folders=(folder,), associations=links))
    lot = signed(lot, client.card)
    reply = client.send(lot)
    assert (reply.status, reply.errors) == ("Success", []), reply.findings
    set_id = lot.submission.submission_set.unique_id
    unique_ids = {"document": first.unique_id, "set": set_id, "folder": folder.unique_id}
    found = ask(client, "GetSubmissionSetAndContents", patient, {"$XDSSubmissionSetUniqueId": f"'{set_id}'"}).found
    (entry,) = (entry for entry in found.documents if entry.unique_id == first.unique_id)
    uuids = {"document": entry.id, "set": found.sets[0].id, "folder": found.folders[0].id}
    return Secret(patient, content, entry, uuids, unique_ids)


def ask(client: Client, query: str, patient: str, parameters: dict[str, str], return_type: str = "LeafClass") -> Reply:
    slots = tuple(Slot(name, (value,)) for name, value in parameters.items())
    body = write_query(AdhocQuery(QUERIES[query]["id"], "", return_type, slots))
    return client.call("ITI-18", body, patient)


def every_way(secret: Secret, patient: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Each stored query with everything it takes to get at the document; by each of the identifiers it takes."""
    for query, definition in QUERIES.items():
        parent = QUERIES.get(definition.get("extends", ""), {})
        parameters = {**parent.get("parameters", {}), **definition["parameters"]}
        required = {name: filled(name, kind, secret, patient)
                    for name, kind in parameters.items() if "required" in kind}
        for name in definition.get("either", [""]):
            chosen = {name: filled(name, parameters[name], secret, patient)} if name else {}
            yield query, {**required, **chosen}


def filled(name: str, kind: str, secret: Secret, patient: str) -> str:
    thing = next((thing for prefix, thing in PREFIXES.items() if name.startswith(prefix)), "document")
    value = {"patient": patient, "uuid": secret.uuids[thing], "uid": secret.unique_ids[thing],
             "assoctype": f"{APND}','{RPLC}','{XFRM}','{HAS_MEMBER}", "objecttype": STABLE, "like": "%"}
    kinds = kind.split()
    if kinds[0] == "status":
        return STATUSES[0]
    text = f"'{value[kinds[0]]}'"
    return f"({text})" if "many" in kinds else text


@pytest.fixture(scope="module")
def masked(as_card: As) -> Secret:
    return feed_secret(as_card("cardiologue"), MASKING, masked=True)


@pytest.fixture(scope="module")
def of_camille(as_card: As) -> Secret:
    return feed_secret(as_card("medecin-traitant"), CAMILLE, masked=False)


def test_the_author_gets_at_it_by_every_query(as_card: As, masked: Secret) -> None:
    """Or the tests below would prove nothing."""
    tells = {query for query, parameters in every_way(masked, MASKING)
             if masked.is_told_by(ask(as_card("cardiologue"), query, MASKING, parameters))}
    # By reference id it has none; sets and folders of a document are answered without the document itself.
    assert set(QUERIES) - tells <= {"FindDocumentsByReferenceId", "FindSubmissionSets", "FindFolders",
                                    "GetFolders", "GetSubmissionSets", "GetFoldersForDocument"}


@pytest.mark.parametrize("return_type", ["LeafClass", "ObjectRef"])
def test_a_masked_document_is_told_of_by_no_query(as_card: As, masked: Secret, return_type: str) -> None:
    client = as_card("medecin")
    for query, parameters in every_way(masked, MASKING):
        reply = ask(client, query, MASKING, parameters, return_type)
        assert reply.status in {"Success", "Failure"}
        assert not masked.is_told_by(reply), query
    reply = client.retrieve(MASKING, masked.entry)
    assert (reply.status, reply.errors, reply.attachments) == ("Failure", ["XDSDocumentUniqueIdError"], {})


@pytest.mark.parametrize("return_type", ["LeafClass", "ObjectRef"])
def test_another_patients_objects_do_not_exist(as_card: As, of_camille: Secret, return_type: str) -> None:
    """The caller may read both records: but not the one with a token for the other."""
    client = as_card("medecin-traitant")
    for query, parameters in every_way(of_camille, CAMILLE):
        if any("atientId" in name for name in parameters):
            reply = ask(client, query, MARCEL, parameters, return_type)
            assert reply.errors == ["XDSPatientIdDoesNotMatch"]
        parameters = {name: value.replace(CAMILLE, MARCEL) for name, value in parameters.items()}
        reply = ask(client, query, MARCEL, parameters, return_type)
        assert not of_camille.is_told_by(reply), query
        assert not any(uuid.encode() in reply.raw for uuid in of_camille.uuids.values()), query
    reply = client.retrieve(MARCEL, of_camille.entry)
    assert (reply.status, reply.attachments) == ("Failure", {})


@pytest.mark.parametrize("card", ["infirmier", "medecin-travail", "cpe-anonyme", "ehpad"])
def test_who_has_no_leave_learns_nothing_by_any_query(as_card: As, of_camille: Secret, card: str) -> None:
    client = as_card(card)
    for query, parameters in every_way(of_camille, CAMILLE):
        for return_type in ("LeafClass", "ObjectRef"):
            reply = ask(client, query, CAMILLE, parameters, return_type)
            assert not of_camille.is_told_by(reply), (query, return_type)
            assert b"ExtrinsicObject" not in reply.raw


def test_nobody_feeds_into_another_patients_things(as_card: As, of_camille: Secret) -> None:
    """A replacement, or a member of a folder, of a record that the token does not name."""
    client = as_card("medecin-traitant")
    assert client.card is not None
    for link in (Association("R", RPLC, "Document01", of_camille.uuids["document"]),
                 Association("M", HAS_MEMBER, of_camille.uuids["folder"], "Document01")):
        lot = make_lot(client.card, document(patient=MARCEL), sign=False)
        links = [*lot.submission.associations, link]
        if link.type == HAS_MEMBER:
            links.append(Association("S", HAS_MEMBER, lot.submission.submission_set.id, link.id))
        lot = replace(lot, submission=replace(lot.submission, associations=tuple(links)))
        reply = client.send(signed(lot, client.card))
        assert (reply.status, reply.errors) == ("Failure", ["XDSPatientIdDoesNotMatch"])
        assert not of_camille.is_told_by(reply) or of_camille.uuids["document"] == link.target
