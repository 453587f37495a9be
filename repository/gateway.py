"""The documents of this community as other communities ask for them: a responding gateway (ITI TF-2 §3.39)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from journal.exchanges import Exchange
from registry.gateway import HOME_MISSING, home_of, unknown_community
from repository.provide import Repository
from repository.retrieve import answer, look_up
from security.identity import Caller
from xds import messages
from xds.answers import Answer
from xds.findings import Finding, Where
from xds.messages import DocumentRequest
from xds.xml import Element

_PLACE = Where("envelope", path="DocumentRequest/HomeCommunityId")


def iti39(body: Element, caller: Caller, exchange: Exchange, repository: Repository) -> Answer:
    """Cross Gateway Retrieve: what ITI-43 answers, for requests that name this community, which is echoed."""
    home = home_of(repository.services.profile.domain)
    with exchange.step("xds.ebxml"):
        requests, strays = sort(messages.read_retrieve(body), (home,))
    found, findings = look_up(requests, "gateway-retrieve", caller, exchange, repository)
    exchange.note(strays)
    return answer(found, messages.registry_errors([*strays, *findings], home))


def sort(requests: Sequence[DocumentRequest], known: Collection[str]) -> tuple[list[DocumentRequest], list[Finding]]:
    """Requests that name a known community, and findings on the others (§3.39.4.1.2)."""
    findings = [unknown_community(request.home, known, _PLACE) if request.home else
                HOME_MISSING.at(_PLACE, expected=" | ".join(known), received=request.document_unique_id)
                for request in requests if request.home not in known]
    return [request for request in requests if request.home in known], findings
