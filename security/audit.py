"""What happened, as an audit record: one model of events, written as DICOM AuditMessage XML (ITI-20, content).

    Event             who did what, when, with what outcome, about whom and which objects
    transaction       the row of `audit.toml` for a transaction
    to_dicom          Event -> AuditMessage of DICOM PS3.15 §A.5.1
    to_record         Event -> dict of texts, for a log of our own

Values only; `journal.audit` keeps them, `volet.auditing` sends them.
"""

from __future__ import annotations

import ipaddress
import tomllib
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from security.identity import Caller
from security.vihf_names import ACCESS_MODES, PROFESSION, SPECIALITY
from xds.xml import clean

DCM, RFC3881 = "DCM", "RFC-3881"
TRANSACTIONS = "IHE Transactions"
_LONGEST = 4000  # signs of one text; an audit record is no place to keep documents


class Action(StrEnum):
    """EventActionCode (DICOM PS3.15 §A.5.1)."""

    CREATE = "C"
    READ = "R"
    UPDATE = "U"
    DELETE = "D"
    EXECUTE = "E"


class Outcome(IntEnum):
    """EventOutcomeIndicator: done; refused in part; refused; we failed."""

    SUCCESS = 0
    MINOR = 4
    SERIOUS = 8
    MAJOR = 12


class Role(StrEnum):
    """ParticipantObjectTypeCodeRole, those that we use."""

    PATIENT = "1"
    REPORT = "3"
    JOB = "20"
    QUERY = "24"


@dataclass(frozen=True, slots=True)
class Coded:
    """A coded value, EV(code, system, text) of the tables."""

    code: str
    system: str
    text: str


@dataclass(frozen=True, slots=True)
class Participant:
    """A machine or person that took part. `address` is a host name or an IP address."""

    user_id: str
    is_requestor: bool
    roles: tuple[Coded, ...] = ()
    alternative_id: str = ""
    name: str = ""
    address: str = ""


@dataclass(frozen=True, slots=True)
class Object:
    """What it was about: a patient, document, submission set or query. `details` are (type, value)."""

    id: str
    id_type: Coded
    role: Role
    name: str = ""
    query: bytes = b""
    details: tuple[tuple[str, str], ...] = ()
    life_cycle: str = ""


@dataclass(frozen=True, slots=True)
class AuditSource:
    """Who reports: this server, and the enterprise it stands in. Type 4 is an application server."""

    id: str
    site: str = ""
    type: str = "4"


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened; `at` is aware.

    `participants` come in the order of the tables: source, human requestors, destination. `context` is for our own
    log, where AuditMessage has no place for it (mode of access, structure, software, duration).
    """

    event: Coded
    action: Action
    outcome: Outcome
    at: datetime
    participants: tuple[Participant, ...]
    reporter: AuditSource
    types: tuple[Coded, ...] = ()
    objects: tuple[Object, ...] = ()
    purposes: tuple[Coded, ...] = ()
    description: str = ""
    context: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def patient(self) -> str:
        """The patient it was about, "" when none."""
        return next((one.id for one in self.objects if one.role is Role.PATIENT), "")


# --- tables --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Transaction:
    """One row of `audit.toml`."""

    code: Coded
    event: Coded
    action: Action
    actions: Mapping[str, Action]
    is_source: bool
    objects: str
    detail: str

    def action_of(self, message: str) -> Action:
        """The action that a message of that name means (SOAP action, HL7 trigger)."""
        return self.actions.get(message, self.action)


@cache
def _tables() -> dict[str, dict[str, Any]]:
    return tomllib.loads(resources.files("security").joinpath("audit.toml").read_text("utf-8"))


@cache
def transactions() -> Mapping[str, Transaction]:
    """The rows by name of the transaction; ValueError names a bad one."""
    return {name: _row(name, row) for name, row in _tables()["transactions"].items()}


_OBJECTS = frozenset({"", "query", "submission-set", "documents", "references"})


def _row(name: str, row: dict[str, Any]) -> Transaction:
    try:
        serves, objects = row.pop("serves", "destination"), row.pop("objects", "")
        if serves not in ("source", "destination") or objects not in _OBJECTS:
            raise ValueError(f"serves = {serves}, objects = {objects}")
        made = Transaction(
            Coded(name, TRANSACTIONS, row.pop("name")), event_code(row.pop("event")), Action(row.pop("action")),
            {message: Action(action) for message, action in row.pop("actions", {}).items()}, serves == "source",
            objects, row.pop("detail", ""))
        if row:
            raise ValueError(f"unknown keys {', '.join(row)}")
    except (KeyError, ValueError) as error:
        raise ValueError(f"security/audit.toml [transactions.{name}]: {error}") from error
    return made


def event_code(code: str) -> Coded:
    """An EventID of DICOM."""
    return Coded(code, DCM, _tables()["events"][code])


def type_code(code: str) -> Coded:
    """An EventTypeCode of DICOM."""
    return Coded(code, DCM, _tables()["types"][code])


def role_code(code: str) -> Coded:
    """A RoleIDCode of DICOM."""
    return Coded(code, DCM, _tables()["roles"][code])


# --- who and about whom --------------------------------------------------------------------------------------------


def human(caller: Caller) -> tuple[Participant, ...]:
    """The human requestor, () when nobody is known.

    UserName is `alias<user@issuer>`: SPProvidedID, NameID and Issuer of the assertion (ITI TF-2 §3.40.4.2); the name
    that people read stands beside it.
    """
    user = caller.national_id or caller.name
    if not user:
        return ()
    issuer = caller.issuer or (caller.identity.subject if caller.identity else "")
    name = f"{caller.alias}<{user}@{issuer}>" if issuer else user
    return (Participant(user, True, tuple(_roles(caller)), alternative_id=caller.name, name=name),)


def _roles(caller: Caller) -> Iterable[Coded]:
    """Profession, specialities and other roles of a caller as codes."""
    if caller.profession:
        yield Coded(caller.profession, PROFESSION, caller.profession)
    yield from (Coded(code, SPECIALITY, code) for code in caller.specialities)
    for role in caller.roles:
        code, _, system = role.partition("^")
        yield Coded(code, system or "–", code)


def purposes(caller: Caller) -> tuple[Coded, ...]:
    """Why the data were asked for: the purpose of an XUA assertion, the mode of access of a VIHF."""
    if caller.purpose:
        code, _, system = caller.purpose.partition("^^")
        return (Coded(code, system, code),)
    return (Coded(caller.mode, ACCESS_MODES, caller.mode),) if caller.authentication else ()


def patient(identifier: str, details: Iterable[tuple[str, str]] = ()) -> Object:
    """A patient by identifier, a CX."""
    return Object(identifier, Coded("2", RFC3881, "Patient Number"), Role.PATIENT, details=tuple(details))


def application(is_start: bool, at: datetime, reporter: AuditSource, process: str, launcher: str) -> Event:
    """Application Activity: this server started or stopped (DICOM PS3.15 §A.5.3.1)."""
    return Event(
        event_code("110100"), Action.EXECUTE, Outcome.SUCCESS, at,
        (Participant(reporter.id, False, (role_code("110150"),), alternative_id=process),
         Participant(launcher, True, (role_code("110151"),))), reporter,
        (type_code("110120" if is_start else "110121"),))


# --- writing -------------------------------------------------------------------------------------------------------


def to_dicom(event: Event) -> bytes:
    """AuditMessage in UTF-8, without XML declaration, on one line (DICOM PS3.15 §A.5.1)."""
    outcome = _element("EventOutcomeDescription", event.description) if event.description else ""
    return (
        f'<AuditMessage><EventIdentification EventActionCode="{event.action}" EventDateTime="{instant(event.at)}"'
        f' EventOutcomeIndicator="{int(event.outcome)}">{_coded("EventID", event.event)}'
        f"{_codes('EventTypeCode', event.types)}{outcome}{_codes('PurposeOfUse', event.purposes)}"
        f"</EventIdentification>{''.join(map(_participant, event.participants))}{_source(event.reporter)}"
        f"{''.join(map(_object, event.objects))}</AuditMessage>").encode()


def _participant(one: Participant) -> str:
    kind = ("2" if _is_ip(one.address) else "1") if one.address else ""
    attributes = _attributes(
        AlternativeUserID=one.alternative_id, UserName=one.name, NetworkAccessPointID=one.address,
        NetworkAccessPointTypeCode=kind)
    return (f'<ActiveParticipant UserID="{_text(one.user_id)}" UserIsRequestor="{str(one.is_requestor).lower()}"'
            f"{attributes}>{_codes('RoleIDCode', one.roles)}</ActiveParticipant>")


def _source(source: AuditSource) -> str:
    return (f'<AuditSourceIdentification AuditSourceID="{_text(source.id)}"'
            f'{_attributes(AuditEnterpriseSiteID=source.site)}><AuditSourceTypeCode csd-code="{_text(source.type)}"/>'
            "</AuditSourceIdentification>")


def _object(one: Object) -> str:
    """Either a query or a name must stand there: what has no name of its own is named by its identifier."""
    kind = "1" if one.role is Role.PATIENT else "2"
    named = (f"<ParticipantObjectQuery>{b64encode(one.query).decode()}</ParticipantObjectQuery>" if one.query
             else _element("ParticipantObjectName", one.name or one.id))
    details = "".join(f'<ParticipantObjectDetail type="{_text(name)}" value="{_encoded(value)}"/>'
                      for name, value in one.details)
    return (f'<ParticipantObjectIdentification ParticipantObjectID="{_text(one.id)}" ParticipantObjectTypeCode="{kind}"'
            f' ParticipantObjectTypeCodeRole="{one.role}"{_attributes(ParticipantObjectDataLifeCycle=one.life_cycle)}>'
            f"{_coded('ParticipantObjectIDTypeCode', one.id_type)}{named}{details}</ParticipantObjectIdentification>")


def _coded(tag: str, value: Coded) -> str:
    return (f'<{tag} csd-code="{_text(value.code)}" codeSystemName="{_text(value.system)}"'
            f' originalText="{_text(value.text)}"/>')


def _codes(tag: str, values: Iterable[Coded]) -> str:
    return "".join(_coded(tag, value) for value in values)


def _element(tag: str, text: str) -> str:
    return f"<{tag}>{_text(text)}</{tag}>"


def _attributes(**values: str) -> str:
    """Those that are not empty."""
    return "".join(f' {name}="{_text(value)}"' for name, value in values.items() if value)


def _text(text: str) -> str:
    return clean(text[:_LONGEST])


def _encoded(value: str) -> str:
    return b64encode(value[:_LONGEST].encode("utf-8", "replace")).decode()


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def instant(moment: datetime) -> str:
    """UTC with milliseconds, xs:dateTime."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


# --- a record of our own -------------------------------------------------------------------------------------------


def to_record(event: Event) -> dict[str, Any]:
    """Everything of an event as texts, lists and dicts; the query in base64."""
    return {
        "at": instant(event.at), "event": _triple(event.event), "types": list(map(_triple, event.types)),
        "action": str(event.action), "outcome": int(event.outcome), "description": event.description,
        "purposes": list(map(_triple, event.purposes)), "patient": event.patient, "reporter": event.reporter.id,
        "participants": [
            {"user": one.user_id, "requestor": one.is_requestor, "roles": list(map(_triple, one.roles)),
             "alternative": one.alternative_id, "name": one.name, "address": one.address}
            for one in event.participants],
        "objects": [
            {"id": one.id, "type": _triple(one.id_type), "role": str(one.role), "name": one.name,
             "query": b64encode(one.query).decode(), "details": [list(detail) for detail in one.details],
             "life_cycle": one.life_cycle} for one in event.objects],
        "context": dict(event.context)}


def _triple(value: Coded) -> list[str]:
    return [value.code, value.system, value.text]
