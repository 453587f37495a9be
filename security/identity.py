"""Who is calling, as values: what a certificate proves (`Identity`) and what a whole request proves (`Caller`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from xds.findings import Finding


class Kind(StrEnum):
    """Natural person (card) or organisation (software certificate of a structure)."""

    PERSON = "person"
    ORGANISATION = "organisation"


class CardType(StrEnum):
    """gipCardType (NOS TRE_G02); ES is a structure's software certificate, which carries none."""

    CPS = "CPS"
    CPF = "CPF"
    CPE = "CPE"
    CPA = "CPA"
    ES = "ES"


class AccessMode(StrEnum):
    """Mode of access claimed by the VIHF (NOS TRE_R248)."""

    NORMAL = "normal"
    BRIS_DE_GLACE = "bris_de_glace"
    CENTRE_15 = "centre_15"


class Authentication(StrEnum):
    """How the user was authenticated (VIHF `Authentification_Mode`)."""

    DIRECTE = "DIRECTE"
    INDIRECTE = "INDIRECTE"
    INDIRECTE_RENFORCEE = "INDIRECTE_RENFORCEE"


@dataclass(frozen=True, slots=True)
class Identity:
    """What one certificate of the IGC-Santé says of its holder. Nothing here was claimed by the caller alone.

    `national_id` is the PS_IdNat of a person (`8` + RPPS, `3<FINESS>/<employee>` for a CPE) or the Struct_IdNat of an
    organisation (subject OU). `specialities` are NOS TRE_R01 codes, `profession` a TRE_G15 code ("10" doctor).
    """

    kind: Kind
    card_type: CardType
    national_id: str
    common_name: str
    family: str = ""
    given: str = ""
    title: str = ""
    structure_id: str = ""
    structure_name: str = ""
    card_number: str = ""
    product_category: int = 0
    profession: str = ""
    future_profession: str = ""
    specialities: tuple[str, ...] = ()
    subject: str = ""
    issuer: str = ""
    serial: str = ""
    not_before: datetime | None = None
    not_after: datetime | None = None
    fingerprint: str = ""

    @property
    def is_test(self) -> bool:
        """Whether the card is of the test range (product category ≥ 0x80, NOS TRE_G01)."""
        return self.product_category >= 0x80

    @property
    def name(self) -> str:
        """What a person reads: family and given name, or the structure's name."""
        return f"{self.family} {self.given}".strip() or self.structure_name or self.common_name


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, as what, for whom: the verified outcome of TLS certificate and VIHF together.

    `national_id` is the NameID (proved in direct mode, asserted by the structure in indirect mode); `patient` the
    resource-id of the VIHF as a CX, "" when the transaction names none. `identity` is None only under a profile that
    asks for no VIHF. `findings` holds warnings to be journalled.

    An assertion of XUA (ITI-40) also says: `issuer`, who vouches; `alias`, the user's name here (SPProvidedID);
    `organisation`; `community`, the home community; `purpose` as code^^system; `consents`, documents and policies that
    the patient acknowledged.
    """

    identity: Identity | None = None
    national_id: str = ""
    name: str = ""
    structure_id: str = ""
    sector: str = ""
    profession: str = ""
    specialities: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    authentication: Authentication | None = None
    mode: AccessMode = AccessMode.NORMAL
    reason: str = ""
    patient: str = ""
    secret_connection: bool = False
    software: str = ""
    assertion_id: str = ""
    issuer: str = ""
    alias: str = ""
    organisation: str = ""
    community: str = ""
    purpose: str = ""
    consents: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = field(default=())
