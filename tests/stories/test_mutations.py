"""Well-formed messages that mean nothing any more: elements lost, doubled, moved and renamed, values that are others'.

No caller is known under plain IHE, so that each message goes as deep as it can.
"""

from __future__ import annotations

import copy
import random
import time
from collections import Counter
from dataclasses import replace

import pytest
from lxml import etree

from tests.stories.ihe import STATUSES, Toolkit, code, entry, folder, member, new_patient, plain_lot, submission
from tests.stories.process import Server
from tests.stories.raw import HANG
from tests.stories.wholeness import Sent, faults
from xds import ebxml, soap
from xds.messages import (
    TRANSACTIONS,
    AdhocQuery,
    DocumentRequest,
    write_query,
    write_remove_documents,
    write_remove_objects,
    write_retrieve,
    write_submit_objects,
)
from xds.model import Association, Author, DocumentEntry
from xds.mtom import write_related
from xds.rim import ObjectRef, Slot, localized
from xds.vocabulary import APND, ON_DEMAND, RPLC, STABLE, XFRM, XFRM_RPLC

SERVICES = {"ITI-41": "repository", "ITI-43": "repository", "ITI-86": "repository"}
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
VALUES = ("", " ", "'", "()", "('a','b')", "('a'", "'a^^'", "x" * 300, "a" * 70_000, "-1", "9" * 20, "20261399",
          "1.2.3", "urn:uuid:", "urn:uuid:00000000-0000-4000-8000-000000000000", "Document01", "SubmissionSet01",
          "a^b^c", "^^^&1.2&ISO", "%", "_", "\\", "\t\n", "null", "é\u202e\U0001f600", RPLC, STABLE)


class Sender:
    """Somebody who sends good messages after a bad translation."""

    def __init__(self, server: Server, seed: int) -> None:
        self.server, self.toolkit, self.chance = server, Toolkit(server), random.Random(seed)
        self.patient, self.other = (new_patient(server, f"mutant-{seed}-{number}") for number in range(2))
        self.known = self._provide()

    def _provide(self) -> DocumentEntry:
        lot = plain_lot(self.patient, self.chance.randbytes(9), self.chance.randbytes(9))
        assert self.toolkit.provide(lot).status == "Success"
        reply = self.toolkit.query(GET_DOCUMENTS, XDSDocumentEntryUniqueId=f"('{lot.documents[0].unique_id}')")
        return reply.documents[0]

    def body(self, name: str) -> tuple[str, list[tuple[str, bytes, int]]]:
        """Body and parts of a good request."""
        if self.chance.random() < 0.1:
            self.known = self._provide()
        known, patient = self.known, self.patient
        if name == "ITI-41":
            lot = plain_lot(self.chance.choice((patient, self.other)), self.chance.randbytes(20), b"a")
            return lot.body(), lot.parts()
        if name == "ITI-42":
            return write_submit_objects(ebxml.from_submission(self._submission())), []
        if name in {"ITI-57", "ITI-92"}:
            sent = submission(patient, replace(known, id="Document01", lid=known.id, version="", status=""))
            links = tuple(replace(link, previous_version="1") for link in sent.associations)
            return write_submit_objects(ebxml.from_submission(replace(sent, associations=links))), []
        if name == "ITI-61":
            made = entry(patient, object_type=ON_DEMAND, creation_time="", hash="", size="")
            return write_submit_objects(ebxml.from_submission(submission(patient, made))), []
        if name == "ITI-62":
            return write_remove_objects([ObjectRef(known.id)]), []
        asked = [DocumentRequest("", known.repository_unique_id, known.unique_id)]
        if name in {"ITI-43", "ITI-86"}:
            return (write_retrieve if name == "ITI-43" else write_remove_documents)(asked), []
        return self._query(), []

    def _submission(self) -> object:
        person = "1^Essai^Camille^^^^^^&1.2.3&ISO"
        made = entry(
            self.patient, authors=(Author((person,), ("Hop^^^^^^^^^1.2.3.4",), ("r",), ("s",), ("^PRN^PH^^^1^2",)),),
            event_codes=(code("e"),), comments=localized("c"), service_start="2020", service_stop="2021",
            legal_authenticator=person, source_patient_info=("PID-3|x^^^&1.2.3&ISO", "PID-5|Essai^Camille"),
            reference_ids=("a^^^&1.2.3&ISO^urn:ihe:iti:xds:2013:order",), uri=("a",))
        holder = folder(self.patient)
        kind = self.chance.choice((RPLC, APND, XFRM, XFRM_RPLC))
        return submission(self.patient, made, *self.chance.choice((
            (), (holder, member(holder.id, made.id, "")), (Association("Related", kind, made.id, self.known.id),))))

    def _query(self) -> str:
        slots = {"$patientId": f"'{self.patient}'", "$XDSDocumentEntryStatus": STATUSES[0],
                 "$XDSSubmissionSetStatus": STATUSES[0], "$XDSFolderStatus": STATUSES[0],
                 "$XDSDocumentEntryFormatCode": "('a^^b')"}
        return write_query(AdhocQuery(GET_ALL, "", self.chance.choice(("LeafClass", "ObjectRef")),
                                      tuple(Slot(slot, (value,)) for slot, value in slots.items())))

    def send(self, name: str) -> str:
        """A message that has suffered; status of its answer, which must not be that of an internal error."""
        body, parts = self.body(name)
        root = etree.fromstring(body)
        for _ in range(self.chance.choice((0, 1, 1, 1, 2, 3))):
            mutate(root, self.chance)
        action, service = TRANSACTIONS[name].action, SERVICES.get(name, "registry")
        sent = soap.write_request(etree.tostring(root, encoding="unicode"), action, "http://localhost/",
                                  soap.new_message_id())
        content_type = f'application/soap+xml; charset=UTF-8; action="{action}"'
        if TRANSACTIONS[name].mtom:
            content_type, pieces, _ = write_related(sent, parts, action)
            sent = b"".join(pieces)
        begun = time.monotonic()
        answer = self.toolkit.client.session.post(self.server.url(f"/xds/{service}", "http"), data=sent, timeout=30,
                                                  headers={"Content-Type": content_type})
        assert time.monotonic() - begun < HANG
        assert answer.status_code in {200, 400}, answer.text
        return answer.text.partition("ResponseStatusType:")[2].partition('"')[0] or "fault"


def mutate(root: etree._Element, chance: random.Random) -> None:
    """One thing wrong."""
    inner = list(root.iter(etree.Element))[1:]
    if not inner:
        return
    victim, model = chance.choice(inner), chance.choice(inner)
    kind = chance.randrange(7)
    if kind == 0:
        parent = victim.getparent()
        assert parent is not None
        parent.remove(victim)
    elif kind == 1:
        victim.addnext(copy.deepcopy(victim))
    elif kind == 2:
        victim.text = chance.choice(VALUES)
    elif kind == 3:
        victim.tag = model.tag
    elif kind == 4 and victim not in {model, *model.iterancestors()}:
        model.append(victim)
    elif victim.attrib:
        name = chance.choice(sorted(map(str, victim.attrib)))
        if kind == 5:
            del victim.attrib[name]
        else:
            victim.set(name, chance.choice((*VALUES, *map(str, model.attrib.values()))))


def mutations(server: Server, seed: int, number: int) -> None:
    sender = Sender(server, seed)
    lot = plain_lot(sender.other, b"to be there afterwards")
    assert sender.toolkit.provide(lot).status == "Success"
    names = ("ITI-18", "ITI-41", "ITI-42", "ITI-43", "ITI-57", "ITI-61", "ITI-62", "ITI-86", "ITI-92")
    seen = Counter(sender.send(sender.chance.choice(names)) for _ in range(number))
    assert {"Success", "Failure", "fault"} <= set(seen)  # some were still good, some not, some no message any more
    assert faults(server.data, [Sent.of(lot)]) == []
    assert server.errors_logged() == []
    assert server.incoming() == []


def test_mutated_messages(ihe: Server) -> None:
    mutations(ihe, seed=42, number=300)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_very_many_mutated_messages(ihe: Server, seed: int) -> None:
    mutations(ihe, seed, number=4000)
