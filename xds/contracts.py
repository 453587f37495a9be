"""What clients read before they call: a WSDL 1.1 of each service and the schemas it imports, made from the table of
transactions. Names are those that IHE asks for (ITI TF-2 §3.18.5, §3.41.5 to §3.44.4).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

from xds import vocabulary
from xds.hl7v3 import V3
from xds.messages import RMD, TRANSACTIONS, WSNT, Transaction
from xds.soap import WSA
from xds.xml import clean

#: Transactions of each service, by its name in the address
SERVICES: Mapping[str, tuple[str, ...]] = {
    "registry": ("ITI-18", "ITI-42", "ITI-51", "ITI-57", "ITI-61", "ITI-62", "ITI-92"),
    "repository": ("ITI-41", "ITI-43", "ITI-86"), "identity": ("ITI-44", "ITI-45", "ITI-47"),
    "gateway": ("ITI-38", "ITI-39", "ITI-55"), "initiating": ("ITI-18", "ITI-43"),
    "subscriptions": ("ITI-52", "ITI-52-Unsubscribe")}

_ACTORS = {"registry": "DocumentRegistry", "repository": "DocumentRepository", "identity": "DocumentRegistry",
           "gateway": "RespondingGateway", "initiating": "InitiatingGateway",
           "subscriptions": "DocumentMetadataNotificationBroker"}
_SCHEMAS: Mapping[str, str] = {
    "rim": vocabulary.RIM, "rs": vocabulary.RS, "lcm": vocabulary.LCM, "query": vocabulary.QUERY,
    "xdsb": vocabulary.XDSB, "rmd": RMD, "hl7v3": V3, "wsnt": WSNT, "wsa": WSA,
    "xml": "http://www.w3.org/XML/1998/namespace"}
_PREFIXES = {namespace: name for name, namespace in _SCHEMAS.items()}

_WSDL = "http://schemas.xmlsoap.org/wsdl/"
_SOAP12 = "http://schemas.xmlsoap.org/wsdl/soap12/"
_WSAW = "http://www.w3.org/2006/05/addressing/wsdl"
_XSD = "http://www.w3.org/2001/XMLSchema"
_HTTP = "http://schemas.xmlsoap.org/soap/http"


def schema(name: str, schema_base: str = "?xsd=") -> str | None:
    """The schema of a name ("rim", "xdsb", …), importing the others from `schema_base` followed by their name; None for
    a name that is none.

    Clients in Java need the whole address there: `java.net.URI` resolves a mere `?xsd=rim` to another path.
    """
    if name not in _SCHEMAS:
        return None
    return re.sub(r'schemaLocation="([a-z0-9]+)\.xsd"',
                  lambda found: f'schemaLocation="{clean(schema_base)}{found[1]}"', _file(name))


@cache
def _file(name: str) -> str:
    return resources.files("xds").joinpath("wsdl", f"{name}.xsd").read_text("utf-8")


def wsdl(service: str, address: str, schema_base: str = "?xsd=") -> str:
    """The WSDL of a service at an address; schemas are imported from `schema_base` followed by their name.

    KeyError for a service that is none.
    """
    actor = _ACTORS[service]
    calls = [call for name in SERVICES[service] for call in _calls(TRANSACTIONS[name])]
    namespaces = dict.fromkeys(_namespace(element) for _, body, _, response in calls for element in (body, response))
    prefixes = "".join(f' xmlns:{_PREFIXES[namespace]}="{namespace}"' for namespace in namespaces
                       if namespace != vocabulary.XDSB)
    operations = "".join(_operation(actor, action, answer) for action, _, answer, _ in calls)
    bindings = "".join(_bound(actor, action) for action, _, _, _ in calls)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<wsdl:definitions name="{actor}" xmlns:wsdl="{_WSDL}" '
        f'targetNamespace="{vocabulary.XDSB}" xmlns:xdsb="{vocabulary.XDSB}" xmlns:soap12="{_SOAP12}" '
        f'xmlns:wsaw="{_WSAW}" xmlns:xsd="{_XSD}"{prefixes}>\n'
        f"<wsdl:types><xsd:schema>{''.join(_import(namespace, schema_base) for namespace in namespaces)}"
        f"</xsd:schema></wsdl:types>\n{_messages(calls)}"
        f'<wsdl:portType name="{actor}_PortType">\n{operations}</wsdl:portType>\n'
        f'<wsdl:binding name="{actor}_Binding_Soap12" type="xdsb:{actor}_PortType">\n'
        f'<soap12:binding style="document" transport="{_HTTP}"/><wsaw:UsingAddressing wsdl:required="true"/>\n'
        f'{bindings}</wsdl:binding>\n<wsdl:service name="{actor}_Service">'
        f'<wsdl:port name="{actor}_Port_Soap12" binding="xdsb:{actor}_Binding_Soap12">'
        f'<soap12:address location="{clean(address)}"/></wsdl:port></wsdl:service>\n</wsdl:definitions>\n')


Call = tuple[str, str, str, str]  # action, body element, action of the answer, its body element


def _calls(transaction: Transaction) -> list[Call]:
    return [(action, body, transaction.answer, transaction.response) for action, body in transaction.requests()]


def _messages(calls: list[Call]) -> str:
    elements = {_name(action): element for action, body, answer, response in calls
                for action, element in ((action, body), (answer, response))}
    return "".join(f'<wsdl:message name="{name}_Message"><wsdl:part name="body" element="{_qualified(element)}"/>'
                   "</wsdl:message>\n" for name, element in elements.items())


def _operation(actor: str, action: str, answer: str) -> str:
    ways = "".join(f'<wsdl:{way} message="xdsb:{_name(uri)}_Message" wsaw:Action="{uri}"/>'
                   for way, uri in (("input", action), ("output", answer)))
    return f'<wsdl:operation name="{actor}_{_name(action)}">{ways}</wsdl:operation>\n'


def _bound(actor: str, action: str) -> str:
    body = '<soap12:body use="literal"/>'
    return (f'<wsdl:operation name="{actor}_{_name(action)}">'
            f'<soap12:operation soapAction="{action}" soapActionRequired="false"/>'
            f"<wsdl:input>{body}</wsdl:input><wsdl:output>{body}</wsdl:output></wsdl:operation>\n")


def _import(namespace: str, base: str) -> str:
    location = clean(f"{base}{_PREFIXES[namespace]}")
    return f'<xsd:import namespace="{namespace}" schemaLocation="{location}"/>'


def _name(action: str) -> str:
    """Last part of an action: `urn:ihe:iti:2007:RetrieveDocumentSet` -> RetrieveDocumentSet; all parts of HL7's own,
    the last of which may be that of request and answer.
    """
    return action.removeprefix(f"{V3}:").replace(":", "_") if action.startswith(V3) else re.split("[:/]", action)[-1]


def _namespace(element: str) -> str:
    return element[1:].partition("}")[0]


def _qualified(element: str) -> str:
    namespace, _, name = element[1:].partition("}")
    return f"{_PREFIXES[namespace]}:{name}"
