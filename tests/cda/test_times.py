"""HL7 v3 times to DTM: precision kept, zones applied, nonsense refused."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cda.times import date_of, lacks_zone, to_utc


@pytest.mark.parametrize(("written", "expected"), [
    ("2020", "2020"),
    ("202003", "202003"),
    ("20200312", "20200312"),
    ("20200312+0100", "20200312"),
    ("2020031211+0100", "2020031210"),
    ("202003121117+0100", "202003121017"),
    ("20200312111700+0100", "20200312101700"),
    ("20200312111700.123+0100", "20200312101700"),
    ("20200101003000+0100", "20191231233000"),
    ("20200312111700-1000", "20200312211700"),
    ("20200312111700+0000", "20200312111700"),
    ("20200312111700", "20200312111700"),
    ("2020031211+0530", "202003120530"),
    ("20240229", "20240229"),
])
def test_times(written: str, expected: str) -> None:
    assert to_utc(written) == expected


@pytest.mark.parametrize("written", [
    "", "hier", "20230229", "20201301", "2020031225", "20200312111760", "202003121", "20200312+01", "20200312T1117",
    "20200312111700+1500", "20200312111700+0160", "00010101000000+0100", "99991231235959-0100", "0000", "٢٠٢٠", "2020 ",
])
def test_what_is_no_time(written: str) -> None:
    assert to_utc(written) == ""


def test_only_a_time_of_day_wants_a_zone() -> None:
    assert lacks_zone("20200312111700")
    assert not lacks_zone("20200312111700+0100")
    assert not lacks_zone("20200312")
    assert not lacks_zone("x")


def test_a_birth_date_never_moves_to_another_day() -> None:
    assert date_of("19790328003000+0100") == "19790328"
    assert date_of("1979") == "1979"
    assert date_of("19790230") == ""


@given(st.datetimes(min_value=datetime(1000, 1, 2), max_value=datetime(9998, 12, 30)), st.integers(-14 * 60, 14 * 60))
def test_agrees_with_the_standard_library(moment: datetime, minutes: int) -> None:
    zoned = moment.replace(tzinfo=timezone(timedelta(minutes=minutes)), microsecond=0)
    assert to_utc(zoned.strftime("%Y%m%d%H%M%S%z")) == zoned.astimezone(UTC).strftime("%Y%m%d%H%M%S")
