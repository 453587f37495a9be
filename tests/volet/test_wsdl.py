"""What is served by GET on an address of a service: every document names the next one by its whole address."""

import pytest
from lxml import etree

from volet import wsdl

ADDRESS = "https://essai.example:8443/xds/repository"
SCHEMA = "{http://www.w3.org/2001/XMLSchema}"


def asked_at(query: str) -> str | None:
    name, _, value = query.partition("=")
    return wsdl.answer("repository", ADDRESS, {name: value})


def imports_of(document: str) -> set[str]:
    return {element.get("schemaLocation") for element in etree.fromstring(document.encode()).iter(f"{SCHEMA}import")}


def test_schemas_are_found_from_the_wsdl_on():
    """CXF and wsimport resolve by `java.net.URI`, for which `?xsd=rim` beside `…/repository` is `…/?xsd=rim`."""
    seen, waiting = set(), {f"{ADDRESS}?wsdl"}
    while waiting:
        seen.add(location := waiting.pop())
        address, _, query = location.partition("?")
        assert address == ADDRESS
        document = asked_at(query)
        assert document is not None, location
        waiting |= imports_of(document) - seen
    assert seen >= {f"{ADDRESS}?{query}" for query in ("wsdl", "xsd=xdsb", "xsd=rs", "xsd=rim", "xsd=lcm", "xsd=xml")}


@pytest.mark.parametrize("query", ["", "xsd", "xsd=other", "xsd=../findings", "disco"])
def test_nothing_else_is_served(query):
    assert asked_at(query) is None
