"""What a query must never give away: by texts that look like SQL, by identifiers of others, by links."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest

from registry import patients, queries
from registry.query_values import BY_ID
from registry.register import Registry
from security.access import Gate
from tests.registry.samples import (
    OTHER,
    PATIENT,
    Told,
    ask,
    code,
    document,
    find,
    folder,
    holds,
    link,
    listed,
    put,
    query,
    quoted,
    replacing,
)
from tests.registry.test_queries import FRAMEWORK, UUID, valid
from tests.registry.test_state import counts
from xds.findings import Refused
from xds.vocabulary import APPROVED, RPLC

# --- attacks -------------------------------------------------------------------------------------------------------

INJECTIONS = ["' OR '1'='1", "'; DROP TABLE document; --", "') OR 1=1 --", "%' OR '%'='", '" OR ""="', "\\' OR 1=1",
              "x' UNION SELECT * FROM patient --", "1; ATTACH DATABASE 'x' AS y", ":patient_id", "%(id)s", "?", "\\",
              "e'\\x27'", "／＊", "/**/", "NULL", "0x27", "'||(SELECT 1)||'"]


def every_parameter() -> list[tuple[str, str, str]]:
    return [(name, key, BY_ID[f"urn:uuid:{identity}"].parameters[f"${key}"].type)
            for name, (identity, parameters) in FRAMEWORK.items() for key in parameters]


@pytest.mark.parametrize(("name", "parameter", "kind"), every_parameter())
def test_no_text_of_a_parameter_is_a_statement(registry: Registry, name: str, parameter: str, kind: str) -> None:
    """Whatever stands in a value: nothing found, or refused; nothing changed, nothing of another patient."""
    put(registry, document(patient_id=OTHER), folder(patient_id=OTHER), patient_id=OTHER)
    before = counts(registry)
    definition = BY_ID[f"urn:uuid:{FRAMEWORK[name][0]}"]
    others = {key: value for key, value in valid(name).items() if key != parameter
              and not (f"${parameter}" in definition.either and f"${key}" in definition.either)}
    shape = {"code": "{}^^1.2.3", "patient": "{}^^^&1.2.250.1.213.1.4.10&ISO", "uuid": "urn:uuid:{}",
             "status": "urn:{}", "assoctype": "urn:{}"}.get(kind, "{}")
    for text in INJECTIONS:
        for value in (shape.format(text), shape.format(text.replace("^", ""))):
            once = listed(value) if definition.parameters[f"${parameter}"].many else quoted(value)
            for written in (once, once.replace("''", "'")):
                with suppress(Refused):
                    assert ask(registry, name, **others, **{parameter: written}).uuids == set()
    assert counts(registry) == before


# --- gates ---------------------------------------------------------------------------------------------------------


def gated(registry: Registry, name: str, gate: Gate, **parameters: Any) -> Told:
    return ask(registry, name, "ObjectRef", gate, **parameters)


def patient_id(registry: Registry, cx: str) -> int:
    with registry.database.read() as connection:
        found = patients.find(connection, cx)
    assert found is not None
    return found.id


@pytest.mark.parametrize("name", [name for name in FRAMEWORK if not name.startswith("Find")])
def test_what_belongs_to_others_does_not_exist(registry: Registry, name: str) -> None:
    """One patient's caller names what is another patient's, by every query that takes identifiers."""
    theirs = put(registry, document(patient_id=OTHER, unique_id="1.2.3"), *replacing_other(registry),
                 folder(patient_id=OTHER), holds("Folder01", "Document01"), patient_id=OTHER).ids
    uuid = {"XDSSubmissionSetEntryUUID": "Set01", "XDSFolderEntryUUID": "Folder01"}
    parameters = {}
    for key, text in valid(name).items():
        value = theirs[uuid.get(key, "Document01")]
        parameters[key] = text.replace(UUID, value).replace(PATIENT, OTHER)
    open_gate = gated(registry, name, Gate(), **parameters)
    closed = gated(registry, name, Gate(only_patient=patient_id(registry, PATIENT)), **parameters)
    assert open_gate.refs
    assert closed.refs == []
    assert gated(registry, name, Gate(only_patient=patient_id(registry, OTHER)), **parameters).refs == open_gate.refs


def replacing_other(registry: Registry) -> tuple[Any, ...]:
    """A relationship for GetRelatedDocuments to find."""
    old = put(registry, document(patient_id=OTHER), patient_id=OTHER).ids["Document01"]
    return (link(RPLC, "Document01", old),)


@pytest.mark.parametrize("name", ["GetAssociations", "GetDocumentsAndAssociations", "GetSubmissionSets", "GetAll",
                                  "GetSubmissionSetAndContents", "GetFolderAndContents", "GetRelatedDocuments",
                                  "GetDocuments", "GetFoldersForDocument", "FindDocuments"])
def test_a_hidden_document_is_not_told_by_its_links(registry: Registry, name: str) -> None:
    """Neither the document nor an association that names it, by whatever query."""
    seen = put(registry, document(type_code=code("SEEN"))).ids["Document01"]
    ids = put(registry, *replacing(seen, type_code=code("HIDDEN")), folder(), holds("Folder01", "Document01")).ids
    hidden = ids["Document01"]
    gate = Gate(sees=lambda facts: facts.type_code != "HIDDEN")
    uuid = {"XDSSubmissionSetEntryUUID": ids["Set01"], "XDSFolderEntryUUID": ids["Folder01"]}
    for start in (hidden, seen):
        parameters = {key: text.replace(UUID, uuid.get(key, start)) for key, text in valid(name).items()}
        told = ask(registry, name, gate=gate, **parameters)
        assert hidden not in told.uuids | {end for one in told.associations for end in (one.source, one.target)}


def test_a_gate_is_told_the_facts(registry: Registry) -> None:
    facts = []
    put(registry, document(confidentiality=(code("N"), code("MASQUE_PS"))))
    find(registry)
    ask(registry, "FindDocuments", gate=Gate(sees=lambda one: bool(facts.append(one))), **valid("FindDocuments"))
    (one,) = facts
    assert (one.type_code, one.class_code, one.confidentiality, one.status) == (
        "60591-5", "11", {"N", "MASQUE_PS"}, APPROVED)
    assert one.authors == {"801234567897", "1750000000"}


def test_the_patient_of_a_query_reaches_the_gate(registry: Registry) -> None:
    asked = []
    for name in FRAMEWORK:
        queries.run(registry, query(name, valid(name)), lambda _, patient: asked.append(patient) or Gate())
    named = {name: patient for name, patient in zip(FRAMEWORK, asked, strict=True) if patient}
    assert named == dict.fromkeys(
        ("FindDocuments", "FindDocumentsByReferenceId", "FindSubmissionSets", "FindFolders", "GetAll"), PATIENT)
