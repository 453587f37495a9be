"""What clients read before they call: `?wsdl` and the schemas it imports, with the address they were asked at."""

from __future__ import annotations

from collections.abc import Mapping

from xds import contracts


def answer(service: str, address: str, arguments: Mapping[str, str]) -> str | None:
    """The document asked for, None when nothing served is."""
    names = {name.lower() for name in arguments}
    schemas = f"{address}?xsd="
    if "wsdl" in names:
        return contracts.wsdl(service, address, schemas)
    if "xsd" in names:
        return contracts.schema(arguments.get("xsd", ""), schemas)
    return None
