"""The life of an entry as a table: state and event to state; what is not in it is refused (ITI TF-2 §3.57, §3.92).

The code looks up, it never decides; a profile with further states (archived, deleted) adds rows of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from xds.vocabulary import APPROVED, DEPRECATED

#: Column `current` of a version: superseded by another, the newest of its logical object, or superseded by a link
#: change (ITI-64), which leaves it deprecated where a find of level 1 still meets it
OLDER, NEWEST, MOVED = 0, 1, 2

REPLACE = "replace"  # RPLC or XFRM_RPLC by a new document, and what follows from it
UPDATE = "update"  # a new version of its metadata (ITI-57)
RESTRICTED = "restricted update"  # a new version of its metadata (ITI-92)
DEPRECATE = "deprecate"  # UpdateAvailabilityStatus, NewStatus Deprecated
APPROVE = "approve"  # UpdateAvailabilityStatus, NewStatus Approved

#: (state of the newest version, event) -> (state of that version, state of the new version or "")
TRANSITIONS: Mapping[tuple[str, str], tuple[str, str]] = {
    (APPROVED, REPLACE): (DEPRECATED, ""),
    (APPROVED, UPDATE): (DEPRECATED, APPROVED),
    (APPROVED, RESTRICTED): (DEPRECATED, APPROVED),
    (DEPRECATED, RESTRICTED): (DEPRECATED, DEPRECATED),
    (APPROVED, DEPRECATE): (DEPRECATED, ""),
    (DEPRECATED, APPROVE): (APPROVED, ""),
}

#: NewStatus of an UpdateAvailabilityStatus -> event
STATUS_EVENTS: Mapping[str, str] = {DEPRECATED: DEPRECATE, APPROVED: APPROVE}
