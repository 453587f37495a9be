"""What others hear of identities: an event whenever a patient's identifiers are others than before, and its message.

The message is PIX Update Notification (ITI-46, ITI TF-2 §3.46); who pushes it to whom is not decided here.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import Connection, select

from journal import outbox
from journal.consumer import Event
from registry.patients import identifiers_of, key_of
from registry.tables import outbox as outbox_table
from registry.tables import patient as table
from xds import hl7v3
from xds.feed import Feed
from xds.hl7v3 import II, REVISE, Header
from xds.messages import TRANSACTIONS

KIND = "identity"


def tell(connection: Connection, patient_id: int) -> None:
    """Write down, in the caller's transaction, which identifiers a patient has from now on, and the name with them."""
    names = connection.execute(select(table.c.family, table.c.given).where(table.c.id == patient_id)).one()
    outbox.append(connection, outbox_table, patient_id, KIND, {
        "identifiers": identifiers_of(connection, patient_id), "family": names.family, "given": names.given})


def notification_of(event: Event, sender: str, receiver: str = "",
                    authorities: Collection[str] = ()) -> tuple[str, str] | None:
    """Body and action of the notification of an event; None where it is of no interest (ITI TF-2 §3.46.4.1.2).

    `sender`, `receiver`: OIDs of the two applications; `authorities`: the domains that the receiver wants to hear of,
    empty for all. The id of the message is that of the event, so that a receiver knows one that comes twice.
    """
    if event.kind != KIND:
        return None
    told = [cx for cx in event.payload["identifiers"]
            if (key := key_of(cx)) is not None and (not authorities or key[0] in authorities)]
    if not told:
        return None
    header = Header(REVISE, II(sender, str(event.id)) if sender else II(str(uuid4())), II(sender), II(receiver), "P")
    at = datetime.fromtimestamp(event.at / 1000, UTC)
    feed = Feed(tuple(told), family=event.payload["family"], given=event.payload["given"])
    return hl7v3.write_feed(feed, header, at), TRANSACTIONS["ITI-46"].action
