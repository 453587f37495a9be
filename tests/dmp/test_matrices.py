"""Both matrices against what is published: cell by cell, by counts, by the lists of exclusions; loud when broken."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dmp import matrices

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
PUBLISHED = SHARED / "dmp" / "document-matrix-2024-09.csv"

#: Group -> how many of the 108 types it reads
READABLE = {"MED": 108, "PHB": 78, "PHA": 78, "DEN": 74, "SF": 75, "INF": 78, "MK": 76, "PED": 70, "ORP": 61, "REH": 49,
            "AUD": 19, "OPT": 12, "MER": 38, "COO": 34, "ASS": 9, "ADM": 5, "AVS": 9, "SOI": 26, "ENC": 13}
GROUPS = list(READABLE)

# --- documents -----------------------------------------------------------------------------------------------------


def read_by(group: str) -> set[str]:
    matrix = matrices.documents()
    return {type_code for type_code in matrix.readers if matrix.may_read(group, type_code)}


@pytest.mark.skipif(not PUBLISHED.exists(), reason="published matrix not at hand")
def test_every_cell_is_the_published_one() -> None:
    with PUBLISHED.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["typeCode"]]
    cells = {(row["typeCode"], group): row[group] == "1" for row in rows for group in GROUPS if row["classCode"]}
    assert len(cells) == 108 * 19
    matrix = matrices.documents()
    ours = {(type_code, group): matrix.may_read(group, type_code) for type_code in matrix.readers for group in GROUPS}
    assert ours == cells


@pytest.mark.parametrize("group", GROUPS)
def test_a_group_reads_as_many_types_as_published(group: str) -> None:
    assert len(read_by(group)) == READABLE[group]


def test_there_are_108_types_and_19_groups() -> None:
    matrix = matrices.documents()
    assert len(matrix.readers) == 108
    assert set(matrix.groups.values()) == set(GROUPS)
    assert matrix.version == "2024-09"


DOCTORS_ONLY = ("34875-5 34120-6 75496-0 28653-4 96349-6 59283-2 29274-8 78341-5 60280-5 57057-2 57075-4 89235-6 "
                "78489-2 57055-6 PRESC-AAT 80771-9 83869-8 89601-9 101881-1 59284-0")
#: What the large groups do not read beyond the types for doctors only; written from the published lists
NOT_READ = {
    "PHB": "89233-1 28617-9 34842-5 68599-0 83901-9 68817-6 EXPPAT_3 ATTEST-RESID ATTEST-HEBGT 86531-1",
    "PHA": "89233-1 28617-9 34842-5 68599-0 83901-9 68817-6 EXPPAT_3 ATTEST-RESID ATTEST-HEBGT 86531-1",
    "DEN": "89233-1 83981-1 88348-8 74207-2 34842-5 68599-0 83901-9 80788-3 EXPPAT_3 74465-6 ATTEST-RESID "
           "ATTEST-HEBGT 86531-1 AUTORIS-SOINS",
    "SF": "28617-9 83981-1 88348-8 74207-2 34842-5 68599-0 83901-9 68817-6 EXPPAT_3 ATTEST-RESID ATTEST-HEBGT 86531-1 "
          "AUTORIS-SOINS",
    "INF": "89233-1 28617-9 68599-0 83901-9 68817-6 ATTEST-DROITS-AM ATTEST-ASS-COMPL ATTEST-RESID 86531-1 "
           "AUTORIS-SOINS",
    "MK": "89233-1 28617-9 80820-4 56445-0 68599-0 83901-9 68817-6 EXPPAT_3 74465-6 ATTEST-RESID 86531-1 "
          "AUTORIS-SOINS",
    "PED": "89233-1 15508-5 67851-6 77436-4 34749-2 51969-4 28617-9 18761-7 80820-4 56445-0 68599-0 83901-9 68817-6 "
           "EXPPAT_3 74465-6 ATTEST-RESID 86531-1 AUTORIS-SOINS",
}
READ = {
    "OPT": "47420-5 78513-9 83836-7 DOCPAT02 57828-6 57832-8 75468-9 61357-0 PRESC-ORTHOPTIE EXPPAT_2 EXPPAT_1 "
           "DOCPAT09",
    "ASS": "83981-1 88348-8 74207-2 80788-3 DOCPAT09 ATTEST-ASS-COMPL ATTEST-RESID ATTEST-HEBGT 86531-1",
    "ADM": "83981-1 88348-8 80788-3 DOCPAT09 86531-1",
    "AVS": "83981-1 88348-8 34842-5 80788-3 DOCPAT09 ATTEST-DROITS-AM ATTEST-ASS-COMPL 86531-1 AUTORIS-SOINS",
    "ENC": "83981-1 88348-8 74207-2 34842-5 18776-5 80788-3 DOCPAT09 ATTEST-DROITS-AM ATTEST-ASS-COMPL ATTEST-RESID "
           "ATTEST-HEBGT 86531-1 AUTORIS-SOINS",
}


def test_doctors_read_everything_and_some_of_it_alone() -> None:
    others = set().union(*(read_by(group) for group in GROUPS if group != "MED"))
    assert read_by("MED") - others == set(DOCTORS_ONLY.split())


@pytest.mark.parametrize("group", NOT_READ)
def test_what_a_large_group_does_not_read(group: str) -> None:
    assert read_by("MED") - read_by(group) == {*NOT_READ[group].split(), *DOCTORS_ONLY.split()}


@pytest.mark.parametrize("group", READ)
def test_what_a_small_group_reads(group: str) -> None:
    assert read_by(group) == set(READ[group].split())


@pytest.mark.parametrize(("group", "type_code"), [
    ("MED", "E1762"), ("MED", "11526-1"), ("MED", ""), ("MED", "60591-5 "), ("", "60591-5"), ("ALL", "60591-5"),
    ("10", "60591-5")])
def test_what_is_not_listed_is_read_by_nobody(group: str, type_code: str) -> None:
    assert not matrices.documents().may_read(group, type_code)


# --- functions -----------------------------------------------------------------------------------------------------

#: PDT-INF-526 v1.8, lines 2.1 (2.2 for CPE), 3.1, "3.1 reference only", 3.2 not masked, 3.2 masked.
#: A dash is a "no"; what has no column in the sheet (occupational physician or CPE in an emergency, …) is one too.
SHEET = """
action           PS-n PS-r    PS-b    MED-n MED-r   MED-b   TRAV-n MT-n MT-b    CPE-n     ES-n      ES-r
feed             yes  yes     yes     yes   yes     yes     yes    yes  yes     yes       yes       yes
search           yes  yes     yes     yes   yes     yes     yes    yes  yes     -         -         -
reference        yes  yes     yes     yes   yes     yes     yes    yes  yes     structure structure structure
retrieve         yes  yes     yes     yes   yes     yes     -      yes  yes     -         -         -
retrieve-masked  own  consent consent own   consent consent -      yes  consent -         -         -
"""


def sheet() -> Iterator[tuple[str, str, str, str]]:
    heads, *lines = (line.split() for line in SHEET.strip().splitlines())
    for action, *cells in lines:
        known = dict(zip(heads[1:], cells, strict=True))
        for actor in ("PS", "MED", "TRAV", "MT", "CPE", "ES"):
            for mode in "nrb":
                yield action, actor, mode, known.get(f"{actor}-{mode}", "-").replace("-", "no")


@pytest.mark.parametrize(("action", "actor", "mode", "expected"), list(sheet()))
def test_every_cell_is_that_of_the_sheet(action: str, actor: str, mode: str, expected: str) -> None:
    assert matrices.functional().cell(action, actor, mode) == expected


@pytest.mark.parametrize(("action", "actor", "mode"), [
    ("register", "MED", "n"), ("", "MED", "n"), ("search", "", "n"), ("search", "CPA", "n"), ("search", "MED", ""),
    ("search", "MED", "x"), ("td", "PS", "n"), ("action", "PS", "n")])
def test_what_the_sheet_does_not_name_is_a_no(action: str, actor: str, mode: str) -> None:
    assert matrices.functional().cell(action, actor, mode) == "no"


def test_titles() -> None:
    assert matrices.functional().title("search") == "TD3.1"
    assert matrices.functional().title("register") == "register"


# --- files ---------------------------------------------------------------------------------------------------------


def in_place(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(matrices.resources, "files", lambda _package: folder)


@pytest.mark.parametrize(("read", "name", "text", "told"), [
    (matrices.functional, "functional_matrix.csv", "action,td,PS-n\nfeed,2.1,maybe\n", "feed/PS-n: 'maybe'"),
    (matrices.documents, "document_matrix.toml",
     'version = "x"\n[groups]\nMED = ["10"]\n[readers]\n"1-2" = "MED DOC"\n', r"1-2: unknown groups \['DOC'\]"),
])
def test_a_bad_cell_fails_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read: Callable[[], object],
                                  name: str, text: str, told: str) -> None:
    (tmp_path / name).write_text(text)
    in_place(monkeypatch, tmp_path)
    with pytest.raises(ValueError, match=told):
        read.__wrapped__()  # type: ignore[attr-defined]
