"""Endpoint references of WS-Addressing 1.0: where somebody wants to be written to, and what must come along with it."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from lxml import etree

from xds.findings import Catalogue, Refused
from xds.soap import ANONYMOUS, SOAP11, SOAP12, WSA, WSSE, is_for_us
from xds.xml import Element, escape, value_of, where

RULES = Catalogue("xds")
ADDRESS = RULES["V-SOAP-ENDPOINT"]
PARAMETER = RULES["V-SOAP-REFERENCE-PARAMETER"]

NONE = WSA + "/none"
MAX_ADDRESS = 2048  # characters
MAX_PARAMETERS = 8 * 1024  # characters of all reference parameters of an endpoint
_WSA = f"{{{WSA}}}"
#: Namespaces whose header blocks say something to the receiver; nobody may put such words into our mouth
_OURS = frozenset({"", SOAP11, SOAP12, WSA, WSSE})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address, and its reference parameters as header blocks (XML text that declares its own prefixes)."""

    address: str
    blocks: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it is the connection on which the request came (WS-Addressing 1.0 SOAP Binding §5.1)."""
        return self.address == ANONYMOUS

    @property
    def is_nowhere(self) -> bool:
        """Whether nothing is to be sent at all (WS-Addressing 1.0 Core §2.1)."""
        return self.address == NONE


HERE = Endpoint(ANONYMOUS)


def read_endpoint(element: Element, part: str = "envelope") -> Endpoint:
    """An element of type wsa:EndpointReferenceType; `Refused` without one address, or with parameters nobody takes."""
    addresses = [value_of(child) for child in element.iterchildren(_WSA + "Address")]
    if len(addresses) != 1 or not 0 < len(addresses[0]) <= MAX_ADDRESS:
        raise Refused(ADDRESS.at(where(element, part), expected=f"wsa:Address (1, ≤ {MAX_ADDRESS})",
                                 received=" | ".join(addresses) or "–"))
    blocks = "".join(_block(child, part) for holder in element.iterchildren(_WSA + "ReferenceParameters")
                     for child in holder.iterchildren(etree.Element))
    if len(blocks) > MAX_PARAMETERS:
        raise Refused(PARAMETER.at(where(element, part), expected=f"≤ {MAX_PARAMETERS}", received=len(blocks)))
    return Endpoint(addresses[0], blocks)


def endpoint_of(header: Element | None, name: str) -> Endpoint | None:
    """The endpoint in a header block ("ReplyTo", "FaultTo") that is for us; None without one."""
    blocks = [] if header is None else [block for block in header.iterchildren(_WSA + name) if is_for_us(block)]
    return read_endpoint(blocks[0]) if blocks else None


def write_endpoint(address: str) -> str:
    """Content of an endpoint reference: its address."""
    return f'<wsa:Address xmlns:wsa="{WSA}">{escape(address)}</wsa:Address>'


def _block(parameter: Element, part: str) -> str:
    """A reference parameter as the header block that it becomes (WS-Addressing 1.0 SOAP Binding §2.3)."""
    namespace = etree.QName(parameter).namespace or ""
    if namespace in _OURS:
        raise Refused(PARAMETER.at(where(parameter, part), expected="≠ soap, wsa, wsse", received=parameter.tag))
    block = deepcopy(parameter)
    etree.strip_tags(block, etree.Comment, etree.ProcessingInstruction)
    block.set(_WSA + "IsReferenceParameter", "true")
    return etree.tostring(block, encoding="unicode", with_tail=False)
