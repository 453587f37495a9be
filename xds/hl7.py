"""HL7 v2 data types that XDS metadata carry as text (ITI TF-3 §4.2.3.1.7; HL7 v2.5 chapter 2.A).

Each type is a frozen value: `CX.parse(text)` reads, `str(value)` writes; `ValueError` says in one sentence what is
wrong. A text in canonical form (no empty component at its end, delimiters escaped) comes back as it was.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any, ClassVar, Self, TypeAlias

_LONGEST = 10_000  # characters; no type of a metadata attribute comes near

# --- escapes (HL7 v2.5 §2.7.1) ---------------------------------------------------------------------------------------

_DECODED = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\"}
_ENCODED = str.maketrans({sign: f"\\{letter}\\" for letter, sign in _DECODED.items()})


def encode(text: str) -> str:
    r"""Text with `|^&~\` as escape sequences."""
    return text.translate(_ENCODED)


def decode(text: str) -> str:
    r"""Text of `\F\ \S\ \T\ \R\ \E\`; ValueError for any other use of the backslash."""
    if "\\" not in text:
        return text
    parts = text.split("\\")
    if len(parts) % 2 == 0 or any(sequence not in _DECODED for sequence in parts[1::2]):
        raise ValueError(r"a backslash that starts none of \F\ \S\ \T\ \R\ \E\ (a backslash itself is \E\)")
    parts[1::2] = [_DECODED[sequence] for sequence in parts[1::2]]
    return "".join(parts)


# --- composite types -------------------------------------------------------------------------------------------------

Layout: TypeAlias = tuple[tuple[str, Callable[[str], Any]], ...]
_LAYOUTS: dict[type[Any], Layout] = {}


class _Composite:
    """Components in the order of the fields; the default of a field says what it is made of."""

    __slots__ = ()
    separator: ClassVar[str] = "^"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The value of the text; ValueError in one sentence."""
        layout, texts = _layout(cls), _split(cls, text)
        if any(texts[len(layout):]):
            raise ValueError(f"{cls.__name__} has {len(texts)} components, {len(layout)} at most")
        found: dict[str, Any] = {}
        for number, ((name, read), part) in enumerate(zip(layout, texts, strict=False), 1):
            if part:
                found[name] = _component(f"{cls.__name__}.{number} ({name})", read, part)
        value = cls(**found)
        value._check()
        return value

    def __str__(self) -> str:
        texts = [_write(getattr(self, name)) for name, _read in _layout(type(self))]
        return self.separator.join(texts).rstrip(self.separator)

    def _check(self) -> None:
        """What no component can say alone."""


def _split(cls: type[_Composite], text: str) -> list[str]:
    if len(text) > _LONGEST:
        raise ValueError(f"{cls.__name__} of {len(text)} characters, {_LONGEST} at most")
    return text.split(cls.separator)


def _layout(cls: type[Any]) -> Layout:
    """Name and reader of each component."""
    if cls not in _LAYOUTS:
        _LAYOUTS[cls] = tuple((item.name, _reader(item.default)) for item in fields(cls))
    return _LAYOUTS[cls]


def _reader(default: object) -> Callable[[str], Any]:
    if isinstance(default, _Composite):
        return type(default).parse
    return _simple if isinstance(default, str) else _subcomponents


def _component(place: str, read: Callable[[str], Any], text: str) -> Any:
    try:
        return read(text)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _simple(text: str) -> str:
    if "&" in text or "^" in text:
        raise ValueError("one value was expected; inside a value & is written \\T\\ and ^ is written \\S\\")
    return decode(text)


def _subcomponents(text: str) -> tuple[str, ...]:
    return tuple(decode(part) for part in text.split("&"))


def _write(value: str | tuple[str, ...] | _Composite) -> str:
    if isinstance(value, str):
        return encode(value)
    return "&".join(map(encode, value)) if isinstance(value, tuple) else str(value)


Parts: TypeAlias = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HD(_Composite):
    """Who assigned an identifier: `namespace&universal id&type`."""

    separator: ClassVar[str] = "&"
    namespace: str = ""
    universal_id: str = ""
    universal_id_type: str = ""

    def _check(self) -> None:
        if bool(self.universal_id) != bool(self.universal_id_type):
            raise ValueError("an authority has both a universal id and its type (&OID&ISO), or neither")
        if self.universal_id_type == "ISO" and not is_oid(self.universal_id):
            raise ValueError(f"{self.universal_id[:80]!r} is no OID, as the type ISO asks")


@dataclass(frozen=True, slots=True)
class FN(_Composite):
    """A family name, with what a particle or a partner adds to it."""

    separator: ClassVar[str] = "&"
    surname: str = ""
    own_prefix: str = ""
    own_surname: str = ""
    partner_prefix: str = ""
    partner_surname: str = ""


@dataclass(frozen=True, slots=True)
class SAD(_Composite):
    """A street address."""

    separator: ClassVar[str] = "&"
    street: str = ""
    name: str = ""
    number: str = ""


@dataclass(frozen=True, slots=True)
class CX(_Composite):
    """An identifier and who assigned it (patientId, sourcePatientId): `id^^^&OID&ISO`."""

    id: str = ""
    check_digit: str = ""
    check_scheme: str = ""
    authority: HD = HD()
    type_code: str = ""
    facility: HD = HD()
    effective_date: str = ""
    expiration_date: str = ""
    jurisdiction: Parts = ()
    agency: Parts = ()

    def _check(self) -> None:
        _need(self.id, "CX.1 (id) is empty")


@dataclass(frozen=True, slots=True)
class CXi(_Composite):
    """A reference in referenceIdList: `id^^^&OID&ISO^type^home` (ITI TF-3 §4.2.3.1.7, CXi)."""

    id: str = ""
    check_digit: str = ""
    check_scheme: str = ""
    authority: HD = HD()
    type_code: str = ""
    home: HD = HD()

    def _check(self) -> None:
        _need(self.id, "CXi.1 (id) is empty")
        _need(self.type_code, "CXi.5 (type of identifier, urn:ihe:iti:xds:2013:…) is empty")
        _need(not (self.check_digit or self.check_scheme), "CXi.2 and CXi.3 are left empty")


@dataclass(frozen=True, slots=True)
class XCN(_Composite):
    """A person: identifier or family name at least (authorPerson, legalAuthenticator)."""

    id: str = ""
    family_name: FN = FN()
    given: str = ""
    middle: str = ""
    suffix: str = ""
    prefix: str = ""
    degree: str = ""
    source_table: str = ""
    authority: HD = HD()
    name_type: str = ""
    check_digit: str = ""
    check_scheme: str = ""
    type_code: str = ""
    facility: HD = HD()
    name_representation: str = ""
    name_context: Parts = ()
    name_validity: Parts = ()
    name_order: str = ""
    effective_date: str = ""
    expiration_date: str = ""
    professional_suffix: str = ""
    jurisdiction: Parts = ()
    agency: Parts = ()

    @property
    def family(self) -> str:
        """The family name without its particles."""
        return self.family_name.surname

    def _check(self) -> None:
        _need(self.id or self.family, "XCN has neither an identifier (1) nor a family name (2)")
        _need(self.id or self.authority == HD(), "XCN.9 (assigning authority) stands without an identifier (1)")


@dataclass(frozen=True, slots=True)
class XPN(_Composite):
    """A person's name (PID-5)."""

    family_name: FN = FN()
    given: str = ""
    middle: str = ""
    suffix: str = ""
    prefix: str = ""
    degree: str = ""
    name_type: str = ""
    name_representation: str = ""
    name_context: Parts = ()
    name_validity: Parts = ()
    name_order: str = ""
    effective_date: str = ""
    expiration_date: str = ""
    professional_suffix: str = ""

    @property
    def family(self) -> str:
        """The family name without its particles."""
        return self.family_name.surname


@dataclass(frozen=True, slots=True)
class XON(_Composite):
    """An organisation: name, and an identifier either with its authority or an OID (authorInstitution)."""

    name: str = ""
    name_type: str = ""
    number: str = ""
    check_digit: str = ""
    check_scheme: str = ""
    authority: HD = HD()
    type_code: str = ""
    facility: HD = HD()
    name_representation: str = ""
    id: str = ""

    def _check(self) -> None:
        _need(self.name, "XON.1 (name of the organisation) is empty")
        _need(not self.id or self.authority.universal_id or is_oid(self.id),
              "XON.10 (identifier) is no OID and XON.6 (&OID&ISO) does not say who assigned it")


@dataclass(frozen=True, slots=True)
class XTN(_Composite):
    """A telephone number or an e-mail address (authorTelecommunication)."""

    number: str = ""
    use: str = ""
    equipment: str = ""
    email: str = ""
    country_code: str = ""
    area_code: str = ""
    local_number: str = ""
    extension: str = ""
    any_text: str = ""
    extension_prefix: str = ""
    speed_dial: str = ""
    unformatted: str = ""

    def _check(self) -> None:
        # component 1 is withdrawn since HL7 v2.3 and still sent
        _need(self.email or self.local_number or self.unformatted or self.number,
              "XTN has neither an e-mail address (4) nor a telephone number (7 or 12)")
        _need(self.email or self.equipment not in {"Internet", "X.400"},
              "XTN.4 (e-mail address) is empty though XTN.3 announces one")


@dataclass(frozen=True, slots=True)
class XAD(_Composite):
    """A postal address (PID-11)."""

    street: SAD = SAD()
    other: str = ""
    city: str = ""
    state: str = ""
    postal_code: str = ""
    country: str = ""
    type_code: str = ""
    geographic: str = ""
    county: str = ""
    census_tract: str = ""
    representation: str = ""
    validity: Parts = ()
    effective_date: str = ""
    expiration_date: str = ""


def _need(fulfilled: object, sentence: str) -> None:
    if not fulfilled:
        raise ValueError(sentence)


# --- time ------------------------------------------------------------------------------------------------------------

_DTM = re.compile(r"[0-9]{4}(?:[0-9]{2}){0,5}")
_FORMAT = "%Y%m%d%H%M%S"


@dataclass(frozen=True, slots=True)
class DTM:
    """A moment in UTC at the precision written: `YYYY[MM[DD[hh[mm[ss]]]]]` (ITI TF-3 §4.2.3.1.7, DTM)."""

    text: str

    @classmethod
    def parse(cls, text: str) -> DTM:
        """The value of the text; ValueError unless it is a date of the calendar."""
        if len(text) > len("YYYYMMDDhhmmss") or not _DTM.fullmatch(text):
            raise ValueError("a time is YYYY[MM[DD[hh[mm[ss]]]]], digits only, in UTC, without fraction or zone")
        value = cls(text)
        try:
            value.moment()
        except ValueError as error:
            raise ValueError(f"{text} is no date of the calendar: {error}") from None
        return value

    @classmethod
    def of(cls, moment: datetime) -> DTM:
        """The time, with its zone, to the second in UTC."""
        if moment.tzinfo is None:
            raise ValueError("a time without a zone has no UTC")
        utc = moment.astimezone(UTC)
        return cls(f"{utc.year:04d}" + utc.strftime(_FORMAT[2:]))

    def moment(self) -> datetime:
        """The first second of it, in UTC."""
        full = self.lower_bound
        return datetime(int(full[:4]), int(full[4:6]), int(full[6:8]), int(full[8:10]), int(full[10:12]),
                        int(full[12:]), tzinfo=UTC)

    @property
    def lower_bound(self) -> str:
        """Its first second, 14 digits: what a search from it compares with."""
        return self.text + "00000101000000"[len(self.text):]

    @property
    def upper_bound(self) -> str:
        """Its last second, 14 digits: what a search up to it compares with."""
        if len(self.text) >= len("YYYYMMDD"):
            return self.text + "00000000235959"[len(self.text):]
        month = self.text[4:] or "12"
        last = calendar.monthrange(int(self.text[:4]), int(month))[1]
        return f"{self.text[:4]}{month}{last}235959"

    def __str__(self) -> str:
        return self.text


# --- sourcePatientInfo -----------------------------------------------------------------------------------------------

PidValue: TypeAlias = CX | XPN | XAD | DTM | str

_PID = re.compile(r"PID-([1-9][0-9]?)\|(.*)", re.DOTALL)
_LAST_PID = 39
_FORBIDDEN = frozenset({2, 4, 12, 19})
_SEXES = frozenset("FMOUAN")


def _sex(text: str) -> str:
    if text not in _SEXES:
        raise ValueError("F, M, O, U, A or N was expected")
    return text


_PID_READERS: Mapping[int, Callable[[str], PidValue]] = {
    3: CX.parse, 5: XPN.parse, 7: DTM.parse, 8: _sex, 11: XAD.parse, 18: CX.parse}


@dataclass(frozen=True, slots=True)
class PID:
    """One value of sourcePatientInfo, `PID-n|…` (ITI TF-3 §4.2.3.2.23); values of fields not in use stay as written."""

    number: int
    values: tuple[PidValue, ...] = ()

    @classmethod
    def parse(cls, text: str) -> PID:
        """The field of the text; ValueError in one sentence."""
        match = _PID.fullmatch(text[:_LONGEST + 1])
        if match is None or int(match.group(1)) > _LAST_PID or len(text) > _LONGEST:
            raise ValueError("PID-n|value was expected, n from 1 to 39")
        number, content = int(match.group(1)), match.group(2)
        _need(number not in _FORBIDDEN, f"PID-{number} does not belong into sourcePatientInfo (PID-2, 4, 12, 19)")
        _need("|" not in content, "one field was expected; inside a value | is written \\F\\")
        read = _PID_READERS.get(number, str)
        texts = content.split("~") if content else []
        return cls(number, tuple(_component(f"PID-{number}", read, part) for part in texts))

    def __str__(self) -> str:
        return f"PID-{self.number}|" + "~".join(map(str, self.values))


# --- identifiers -----------------------------------------------------------------------------------------------------

_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]*))+")
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_OID_LENGTH = 64


def is_oid(text: str) -> bool:
    """Whether the text is an OID of at most 64 characters, no arc with a leading zero (ITI TF-3 §4.2.3.1.7, OID)."""
    return len(text) <= _OID_LENGTH and _OID.fullmatch(text) is not None


def is_uuid(text: str) -> bool:
    """Whether the text is a whole `urn:uuid:` with its 32 hexadecimal digits, in either case."""
    return len(text) <= _OID_LENGTH and _UUID.fullmatch(text) is not None


def same_patient(one: str, other: str) -> bool:
    """Whether two CX texts name one patient: same id and assigning authority; the type (`^NH`, `^PI`) does not count.

    A text that is no CX is nobody's.
    """
    try:
        first, second = CX.parse(one), CX.parse(other)
    except ValueError:
        return False
    return first.id == second.id and _key(first.authority) == _key(second.authority)


def _key(authority: HD) -> tuple[str, str]:
    """What tells authorities apart: the universal id; the local namespace only where there is no other."""
    if authority.universal_id:
        return authority.universal_id, authority.universal_id_type
    return authority.namespace, ""
