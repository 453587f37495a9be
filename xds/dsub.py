"""Document Metadata Subscription: WS-BaseNotification messages as IHE uses them (ITI TF-2 §3.52, §3.53, and their
extensions for folders and for any patient).

Subscribe and Unsubscribe are read, Notify is written; the other halves are there for those who subscribe.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from xds import rim
from xds.addressing import Endpoint, read_endpoint, write_endpoint
from xds.findings import Catalogue, Finding, Refused, Rule
from xds.messages import WSN, WSNT, AdhocQuery, SubmitRequest, read_submit_objects
from xds.soap import fault_code_of
from xds.vocabulary import LCM, RIM
from xds.xml import Element, clean, escape, local_name, value_of, where

RULES = Catalogue("xds")
CONSUMER = RULES["V-DSUB-CONSUMER"]
FILTER = RULES["V-DSUB-FILTER"]
DIALECT = RULES["V-DSUB-DIALECT"]
TOPIC_SYNTAX = RULES["V-DSUB-TOPIC-SYNTAX"]
TOPIC = RULES["V-DSUB-TOPIC"]
POLICY = RULES["V-DSUB-POLICY"]
NOTIFY = RULES["V-DSUB-NOTIFY"]

#: wsa:Action of a Notify (WS-BaseNotification 1.3 §3.2), which IHE's appendix V leaves to that standard
NOTIFY_ACTION = f"{WSN}/NotificationConsumer/Notify"
SIMPLE = "http://docs.oasis-open.org/wsn/t-1/TopicExpression/Simple"
#: Written without the hyphen by clients that are in use
_DIALECTS = frozenset({SIMPLE, "http://docs.oasis-open.org/wsn/t1/TopicExpression/Simple"})

FULL, MINIMAL = "FullDocumentEntry", "MinimalDocumentEntry"
SUBMISSION_SET, FOLDER = "SubmissionSetMetadata", "FolderMetadata"
TOPICS = (FULL, MINIMAL, SUBMISSION_SET, FOLDER)

_PART = "envelope"
_WSNT, _RIM, _LCM = (f"{{{name}}}" for name in (WSNT, RIM, LCM))
_BASE_FAULTS = "http://docs.oasis-open.org/wsrf/bf-2"
_RESOURCES = "http://docs.oasis-open.org/wsrf/rw-2"
_TOPIC = re.compile(r"(?:[A-Za-z_][\w.-]{0,60}:)?([A-Za-z]\w{0,60}(?:/[A-Za-z]\w{0,60})*)")


@dataclass(frozen=True, slots=True)
class Subscribe:
    """A subscription asked for. `termination` is the text of InitialTerminationTime, "" when absent or nil."""

    consumer: Endpoint
    topic: str
    query: AdhocQuery
    termination: str = ""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription made: where to cancel it, until when it lasts."""

    reference: str
    termination: datetime | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """What a Notify tells: of which subscription, by what topic, which objects."""

    reference: str
    topic: str
    content: SubmitRequest


# --- reading -------------------------------------------------------------------------------------------------------


def read_subscribe(body: Element) -> Subscribe:
    """A wsnt:Subscribe with one topic and one filter expression (ITI TF-2 §3.52.4.1.2, §3.52.5.3)."""
    consumer = _one(body, _WSNT + "ConsumerReference", CONSUMER)
    content = _one(body, _WSNT + "Filter", FILTER)
    topic = _read_topic(_one(content, _WSNT + "TopicExpression", FILTER))
    query = _one(content, _RIM + "AdhocQuery", FILTER)
    for other in content.iterchildren("{*}*"):
        if other.tag not in {_WSNT + "TopicExpression", _RIM + "AdhocQuery"}:
            raise Refused(FILTER.at(where(other, _PART), expected="TopicExpression, AdhocQuery", received=other.tag))
    for policy in body.iterchildren(_WSNT + "SubscriptionPolicy"):
        for child in policy.iterchildren("{*}*"):
            raise Refused(POLICY.at(where(child, _PART), received=local_name(child)))
    ends = [value_of(child) for child in body.iterchildren(_WSNT + "InitialTerminationTime")]
    slots = tuple(map(rim.read_slot, query.iterchildren(_RIM + "Slot")))
    return Subscribe(read_endpoint(consumer), topic, AdhocQuery(query.get("id", ""), slots=slots,
                                                                line=query.sourceline or 0), "".join(ends[:1]))


def read_subscribed(body: Element) -> Subscribed:
    """A wsnt:SubscribeResponse."""
    reference = read_endpoint(_one(body, _WSNT + "SubscriptionReference", NOTIFY)).address
    ends = [value_of(child) for child in body.iterchildren(_WSNT + "TerminationTime")]
    return Subscribed(reference, termination_of(ends[0], datetime.now(UTC)) if ends and ends[0] else None)


def read_notify(body: Element) -> Notification:
    """A wsnt:Notify with its one message (ITI TF-2 §3.53.4.1.2)."""
    message = _one(body, _WSNT + "NotificationMessage", NOTIFY)
    reference = _one(message, _WSNT + "SubscriptionReference", NOTIFY)
    topic = _read_topic(_one(message, _WSNT + "Topic", NOTIFY))
    content = _one(_one(message, _WSNT + "Message", NOTIFY), _LCM + "SubmitObjectsRequest", NOTIFY)
    return Notification(read_endpoint(reference).address, topic, read_submit_objects(content))


def _read_topic(expression: Element) -> str:
    """Local name of a topic in the Simple dialect (WS-Topics 1.3 §7.1); its prefix is rarely declared."""
    dialect, text = expression.get("Dialect", "").strip(), value_of(expression)
    if dialect not in _DIALECTS:
        raise Refused(DIALECT.at(where(expression, _PART), expected=SIMPLE, received=dialect))
    match = _TOPIC.fullmatch(text)
    if match is None:
        raise Refused(TOPIC_SYNTAX.at(where(expression, _PART), expected=f"ihe:{FULL}", received=text))
    if match[1] not in TOPICS:
        raise Refused(TOPIC.at(where(expression, _PART), expected=" | ".join(f"ihe:{name}" for name in TOPICS),
                               received=text))
    return match[1]


def _one(parent: Element, tag: str, rule: Rule) -> Element:
    found = list(parent.iterchildren(tag))
    if len(found) != 1:
        raise Refused(rule.at(where(parent, _PART), expected=f"1 × {tag.rpartition('}')[2]}", received=len(found)))
    return found[0]


# --- termination times ---------------------------------------------------------------------------------------------

_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,20})?"
                        r"(Z|[+-][0-9]{2}:[0-9]{2})?")
_DURATION = re.compile(r"P(?:([0-9]{1,4})Y)?(?:([0-9]{1,4})M)?(?:([0-9]{1,6})D)?"
                       r"(?:T(?=[0-9])(?:([0-9]{1,6})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,9})(?:\.[0-9]{1,9})?S)?)?")


def termination_of(text: str, now: datetime) -> datetime:
    """The moment that an xs:dateTime or an xs:duration from now means; ValueError for what is neither.

    A time without time zone is UTC (WS-BaseNotification 1.3 §4.2).
    """
    if _DATE_TIME.fullmatch(text):
        try:
            moment = datetime.fromisoformat(text)
            return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
        except OverflowError as error:
            raise ValueError("xs:dateTime") from error
    match = _DURATION.fullmatch(text)
    if match is None or len(text) < 3:
        raise ValueError("xs:dateTime | xs:duration")
    years, months, days, hours, minutes, seconds = (int(found or 0) for found in match.groups())
    try:
        return _add_months(now, 12 * years + months) + timedelta(days=days, hours=hours, minutes=minutes,
                                                                 seconds=seconds)
    except OverflowError as error:
        raise ValueError("xs:duration (≤ 9999)") from error


def _add_months(moment: datetime, months: int) -> datetime:
    """The same day so many months later, or the last one of that month (XML Schema Part 2 appendix E)."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    if year > 9999:
        raise OverflowError
    return moment.replace(year=year, month=month + 1,
                          day=min(moment.day, calendar.monthrange(year, month + 1)[1]))


def _written(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


# --- writing -------------------------------------------------------------------------------------------------------


def write_subscribe(subscribe: Subscribe) -> str:
    """A wsnt:Subscribe."""
    end = (f"<wsnt:InitialTerminationTime>{escape(subscribe.termination)}</wsnt:InitialTerminationTime>"
           if subscribe.termination else "")
    slots = "".join(rim.write_slot(slot.name, *slot.values) for slot in subscribe.query.slots)
    return (f'<wsnt:Subscribe xmlns:wsnt="{WSNT}" xmlns:rim="{RIM}"><wsnt:ConsumerReference>'
            f"{write_endpoint(subscribe.consumer.address)}</wsnt:ConsumerReference><wsnt:Filter>"
            f'<wsnt:TopicExpression Dialect="{SIMPLE}">ihe:{escape(subscribe.topic)}</wsnt:TopicExpression>'
            f'<rim:AdhocQuery id="{escape(subscribe.query.id)}">{slots}</rim:AdhocQuery></wsnt:Filter>{end}'
            "</wsnt:Subscribe>")


def write_subscribed(reference: str, now: datetime, termination: datetime) -> str:
    """A wsnt:SubscribeResponse."""
    return (f'<wsnt:SubscribeResponse xmlns:wsnt="{WSNT}"><wsnt:SubscriptionReference>{write_endpoint(reference)}'
            f"</wsnt:SubscriptionReference><wsnt:CurrentTime>{_written(now)}</wsnt:CurrentTime>"
            f"<wsnt:TerminationTime>{_written(termination)}</wsnt:TerminationTime></wsnt:SubscribeResponse>")


def write_unsubscribe() -> str:
    """A wsnt:Unsubscribe; the subscription is the address it is sent to."""
    return f'<wsnt:Unsubscribe xmlns:wsnt="{WSNT}"/>'


def write_unsubscribed() -> str:
    """A wsnt:UnsubscribeResponse."""
    return f'<wsnt:UnsubscribeResponse xmlns:wsnt="{WSNT}"/>'


def write_notify(reference: str, producer: str, topic: str, objects_xml: Iterable[str]) -> str:
    """A wsnt:Notify with one message (ITI TF-2 §3.53.4.1.2); the objects, or references, are `rim:` texts."""
    return (f'<wsnt:Notify xmlns:wsnt="{WSNT}" xmlns:lcm="{LCM}" xmlns:rim="{RIM}"><wsnt:NotificationMessage>'
            f"<wsnt:SubscriptionReference>{write_endpoint(reference)}</wsnt:SubscriptionReference>"
            f'<wsnt:Topic Dialect="{SIMPLE}">ihe:{escape(topic)}</wsnt:Topic>'
            f"<wsnt:ProducerReference>{write_endpoint(producer)}</wsnt:ProducerReference><wsnt:Message>"
            f"<lcm:SubmitObjectsRequest><rim:RegistryObjectList>{''.join(objects_xml)}</rim:RegistryObjectList>"
            "</lcm:SubmitObjectsRequest></wsnt:Message></wsnt:NotificationMessage></wsnt:Notify>")


def write_fault_detail(findings: Sequence[Finding], now: datetime) -> str:
    """What WS-BaseNotification wants in the detail of its own faults (§5, WS-BaseFaults 1.2 §2); "" for any other."""
    _, subcodes = fault_code_of(findings)
    prefix, _, name = "".join(subcodes[:1]).partition(":")
    namespace = {"wsnt": WSNT, "wsrf-rw": _RESOURCES}.get(prefix)
    if namespace is None:
        return ""
    texts = "".join(f'<wsrf-bf:Description xml:lang="{lang}">{clean(text)}</wsrf-bf:Description>'
                    for lang, text in (("fr", findings[0].fr), ("en", findings[0].en)))
    return (f'<{prefix}:{name} xmlns:{prefix}="{namespace}" xmlns:wsrf-bf="{_BASE_FAULTS}">'
            f"<wsrf-bf:Timestamp>{_written(now)}</wsrf-bf:Timestamp>{texts}{_special(name, now)}</{prefix}:{name}>")


def _special(name: str, now: datetime) -> str:
    """Elements that the schema of one fault requires."""
    if name == "InvalidFilterFault":
        return f'<wsnt:UnknownFilter xmlns:rim="{RIM}">rim:AdhocQuery</wsnt:UnknownFilter>'
    if name == "UnacceptableInitialTerminationTimeFault":
        return f"<wsnt:MinimumTime>{_written(now)}</wsnt:MinimumTime>"
    return ""
