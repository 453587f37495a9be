"""The registry's transactions against a large base: what a patient's documents cost must not depend on all the others'.

`VOLET_BENCH_DOCUMENTS` documents in the base (default 50,000; a million takes some minutes and two gigabytes). Plain
IHE rules, so that the figures are the registry's own.
"""

from __future__ import annotations

import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from benchmarks import population
from benchmarks.bench_transactions import FIND_DOCUMENTS, Bench, Message, run
from benchmarks.bench_xds import SUBMISSION
from volet.assembly import Server, build
from volet.settings import Settings
from xds import ebxml, messages
from xds.messages import TRANSACTIONS, AdhocQuery
from xds.model import Submission
from xds.rim import Slot
from xds.soap import new_message_id, write_request
from xds.vocabulary import APPROVED

ROUNDS = 200
PER_PATIENT = 20
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
_SMALL = 100 * PER_PATIENT


def report() -> Iterator[str]:
    """The same requests with a small base and with a full one, and the ratio of their medians."""
    documents = int(os.environ.get("VOLET_BENCH_DOCUMENTS", "50000"))
    with tempfile.TemporaryDirectory(prefix="volet-base-") as name:
        bench = Bench(Path(name))
        run(bench.server, bench.feed()[0])
        server = build(Settings(data=Path(name), profile="ihe"))
        write = server.services.registry.database.write
        population.grow(write, _SMALL, PER_PATIENT)
        before = measure(server, _SMALL)
        spent = population.grow(write, documents, PER_PATIENT, first=_SMALL)
        size = sum(path.stat().st_size for path in Path(name).glob("volet.db*"))
        yield (f"\nBase of {documents + _SMALL:,} documents, {PER_PATIENT} a patient; made at {documents / spent:,.0f} "
               f"a second, {size / documents:,.0f} bytes a document with all indexes")
        for what, times in measure(server, documents + _SMALL).items():
            yield (f"  {what:<44} p50 {_at(times, .5):>7,.0f} µs  p99 {_at(times, .99):>8,.0f} µs  "
                   f"{1e6 / statistics.mean(times):>6,.0f}/s  {_at(times, .5) / _at(before[what], .5):5.2f} × with "
                   f"{_SMALL:,} documents")
        for opened in (server, bench.server):
            opened.close()


def measure(server: Server, documents: int) -> dict[str, list[float]]:
    """Microseconds of each call, by kind of request."""
    chance = random.Random(11)
    kinds: dict[str, Callable[[int], Message]] = {
        f"ITI-18 FindDocuments, {PER_PATIENT} LeafClass": _find,
        "ITI-18 FindDocuments, two years, ObjectRef": _find_recent,
        "ITI-18 GetDocuments by uniqueId": _get,
        "ITI-42 one document": _register,
    }
    return {what: [_timed(server, make(chance.randrange(documents))) for _ in range(ROUNDS)]
            for what, make in kinds.items()}


def _timed(server: Server, message: Message) -> float:
    begun = time.perf_counter_ns()
    run(server, message)
    return (time.perf_counter_ns() - begun) / 1000


def _patient(number: int) -> str:
    return f"{population.ins_of(number // PER_PATIENT)}^^^&{population.AUTHORITY}&ISO^NH"


def _find(number: int) -> Message:
    return _query(AdhocQuery(FIND_DOCUMENTS, slots=_of(number)))


def _find_recent(number: int) -> Message:
    since = Slot("$XDSDocumentEntryCreationTimeFrom", ("2023",))
    return _query(AdhocQuery(FIND_DOCUMENTS, return_type=messages.OBJECT_REF, slots=(*_of(number), since)))


def _get(number: int) -> Message:
    return _query(AdhocQuery(GET_DOCUMENTS, slots=(Slot("$XDSDocumentEntryUniqueId", (f"('2.25.2{number}')",)),)))


def _of(number: int) -> tuple[Slot, ...]:
    return (Slot("$XDSDocumentEntryPatientId", (f"'{_patient(number)}'",)),
            Slot("$XDSDocumentEntryStatus", (f"('{APPROVED}')",)))


def _query(query: AdhocQuery) -> Message:
    return _message("ITI-18", messages.write_query(query))


def _register(number: int) -> Message:
    """One new document of an old patient."""
    patient, entry, the_set = _patient(number), SUBMISSION.documents[0], SUBMISSION.sets[0]
    ids = {old: f"urn:uuid:{uuid4()}" for old in (entry.id, the_set.id, SUBMISSION.associations[0].id)}
    submission = Submission(
        (replace(the_set, id=ids[the_set.id], unique_id=f"2.25.{uuid4().int}", patient_id=patient),),
        (replace(entry, id=ids[entry.id], unique_id=f"2.25.{uuid4().int}", patient_id=patient),), (),
        tuple(replace(link, id=ids[link.id], source=ids[the_set.id], target=ids[entry.id])
              for link in SUBMISSION.associations))
    return _message("ITI-42", messages.write_submit_objects(ebxml.from_submission(submission)))


def _message(name: str, body: str) -> Message:
    action = TRANSACTIONS[name].action
    envelope = write_request(body, action, "https://localhost/", new_message_id())
    return Message("registry", f'application/soap+xml; action="{action}"', envelope, b"")


def _at(times: Sequence[float], share: float) -> float:
    return sorted(times)[min(int(len(times) * share), len(times) - 1)]
