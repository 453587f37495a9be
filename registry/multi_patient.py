"""Stored queries over several patients, or over all (ITI TF-2 §3.51), for research, public health, quality of care.

Patients lead every key and index, for they are the shard key: a search that names some reads what is theirs, one that
names none reads every document there is, on every shard. What it answers is bounded (`max_results`), and asked of the
database no further; what it reads on the way is not. Whoever may ask is the profile's to say (action "multi-patient").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from journal.exchanges import Exchange
from registry import queries
from registry.queries import Answer as Found
from registry.query_values import load, parse
from registry.reader import Reader
from registry.register import Registry
from registry.transactions import Services, find_in
from security.access import Gate
from security.identity import Caller
from xds import messages
from xds.answers import Answer
from xds.messages import OBJECT_REF, AdhocQuery
from xds.vocabulary import SUCCESS
from xds.xml import Element

BY_ID = load("multi_patient_queries.toml")
_QUERIES = {"FindDocumentsForMultiplePatients": queries.find_documents,
            "FindFoldersForMultiplePatients": queries.find_folders}


def iti51(body: Element, caller: Caller, exchange: Exchange, services: Services) -> Answer:
    """Multi-Patient Stored Query (ITI TF-2 §3.51): the journal names no patient, or the caller's own."""
    with exchange.step("xds.ebxml"):
        query = messages.read_query(body)
    exchange.patient = caller.patient

    def gate_of(reader: Reader) -> Gate:
        with exchange.step("profile"):
            return services.profile.admit(reader.connection, caller, "multi-patient", "", find_in(reader.connection))

    with exchange.step("registry"):
        found = run(services.registry, query, gate_of)
    return Answer(messages.write_query_response(SUCCESS, (), found.objects))


def run(registry: Registry, request: AdhocQuery, gate_of: Callable[[Reader], Gate]) -> Found:
    """Answer an AdhocQuery over several patients, in full or as references; Refused beyond `max_results` either way."""
    definition, values = parse(request.id, request.slots, BY_ID)
    with registry.database.read() as connection:
        reader = Reader(connection, registry.book, Gate())
        reader.gate, reader.limit = gate_of(reader), registry.domain.max_results
        found = queries.find(reader, definition, values, _QUERIES)
        if request.return_type == OBJECT_REF:
            return queries.refs(found)
        reader.kin.ids(found.patients())  # all of them by one look-up
        return Found(tuple(queries.render(reader, found)), len(found))


#: The transaction by its name
STORIES: Mapping[str, Callable[[Element, Caller, Exchange, Services], Answer]] = {"ITI-51": iti51}
