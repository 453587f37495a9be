"""MTOM packages: what is legal is read however it is cut, what is not is refused, and others read what we write."""

from __future__ import annotations

import base64
import email
import email.policy
import quopri
import time
import tracemalloc
from contextlib import suppress
from email.mime.application import MIMEApplication
from email.mime.multipart import MIMEMultipart
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xds import encodings, mtom, soap
from xds.findings import Refused
from xds.media import parse_content_type
from xds.mtom import Limits, PartData, PartEnd, PartStart, Reader, read_whole, write_related
from xds.xml import parse

ROOT = b'<?xml version="1.0"?><a>\xc3\xa9</a>'
CONTENT_TYPE = ('multipart/related; type="application/xop+xml"; start="<root@essai>"; '
                'start-info="application/soap+xml"; boundary="=_limite"; action="urn:essai"')
PLAIN_TYPE = 'multipart/related; boundary="=_limite"'


def package(*parts: tuple[str, bytes], boundary: str = "=_limite", eol: str = "\r\n", before: bytes = b"",
            after: bytes = b"") -> bytes:
    """A package of (header block, content) as other stacks write it."""
    data = before
    for header, content in parts:
        head = f"--{boundary}{eol}{header}".replace("|", eol) + (eol * 2 if header else eol)
        data += head.encode() + content + eol.encode()
    return data + f"--{boundary}--{eol}".encode() + after


ROOT_PART = ("Content-Type: application/xop+xml; charset=UTF-8; type=\"application/soap+xml\"|Content-ID: <root@essai>",
             ROOT)
DOCUMENT_PART = ("Content-Type: text/plain|Content-Transfer-Encoding: binary|Content-ID: <doc@essai>", b"bonjour\r\n")
VALID = package(ROOT_PART, DOCUMENT_PART)


def read(content_type: str, body: bytes, *cuts: int) -> tuple[dict[str, bytes], bytes, list[str]]:
    """Parts, root and warnings of a body fed in pieces."""
    reader, parts, root, name, pieces, is_root = Reader(content_type), {}, b"", "", [], False
    edges = [0, *sorted(cuts), len(body)]
    chunks = [body[low:high] for low, high in pairwise(edges)]
    for event in [event for chunk in chunks for event in reader.feed(chunk)] + reader.close():
        match event:
            case PartStart(content_id=name, is_root=is_root):
                pieces = []
            case PartData():
                pieces.append(bytes(event.data))
            case PartEnd() if is_root:
                root = b"".join(pieces)
            case PartEnd():
                parts[name] = b"".join(pieces)
    return parts, root, [finding.code for finding in reader.warnings]


def refusal(content_type: str, body: bytes, limits: Limits = mtom.DEFAULT_LIMITS) -> str:
    with pytest.raises(Refused) as caught:
        read_whole(content_type, body, limits)
    return caught.value.findings[0].code


# --- what we write -----------------------------------------------------------------------------------------------

contents = st.binary(max_size=300) | st.lists(
    st.sampled_from([b"\r\n", b"\r", b"\n", b"--", b"--volet-", b"x", b"=_limite", b"--=_limite"]),
    max_size=12).map(b"".join)
ids = st.lists(st.from_regex(r"[a-zA-Z0-9@._%+-]{1,30}", fullmatch=True), unique=True, max_size=4)


@given(contents, ids, st.data())
def test_what_is_written_is_read_however_it_is_cut(root, names, data):
    parts = [(name, data.draw(contents)) for name in names]
    outer, pieces, length = write_related(root, [(name, content, len(content)) for name, content in parts], "urn:a")
    body = b"".join(pieces)
    assert len(body) == length
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=8))
    assert read(outer, body, *cuts) == (dict(parts), root, [])
    assert read(outer, body, *range(len(body))) == (dict(parts), root, [])
    whole = read_whole(outer, body)
    assert (whole.root, whole.attachments, whole.action, whole.charset) == (root, dict(parts), "urn:a", "UTF-8")


@given(contents, contents, st.integers(0, 400), st.integers(0, 400))
def test_any_content_survives_in_a_package_of_others(root, content, first, second):
    body = package((ROOT_PART[0], root), (DOCUMENT_PART[0], content))
    if b"\n--=_limite" in b"\n" + root or b"\n--=_limite" in b"\n" + content:
        return  # that boundary was not for that content
    assert read(CONTENT_TYPE, body, min(first, len(body)), min(second, len(body))) == ({"doc@essai": content}, root, [])


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=3))
def test_no_bytes_do_more_than_be_refused(data, cuts):
    for body in (data, b"--=_limite\r\n" + data, VALID[:-9] + data, b"--=_limite\r\n\r\n" + data + b"\r\n--=_limite--"):
        with suppress(Refused):
            read(CONTENT_TYPE, body, *[min(cut, len(body)) for cut in cuts])


@given(st.text(max_size=200))
def test_no_content_type_does_more_than_be_refused(text):
    for header in (text, "multipart/related; " + text, 'multipart/related; boundary="' + text):
        with suppress(Refused):
            Reader(header)


def test_what_is_written_is_what_the_profile_says():
    outer, pieces, _ = write_related(ROOT, [("doc@essai", b"x", 1)], "urn:ihe:iti:2007:RetrieveDocumentSetResponse")
    kind = parse_content_type(outer)
    assert kind.media_type == "multipart/related"
    assert list(kind.parameters) == ["type", "start", "start-info", "boundary", "action"]
    assert kind.parameters["type"] == "application/xop+xml"
    assert kind.parameters["start-info"] == "application/soap+xml"
    head = b"".join(pieces).split(b"\r\n\r\n")[0].decode()
    assert 'Content-Type: application/xop+xml; charset=UTF-8; type="application/soap+xml"' in head
    assert "Content-Transfer-Encoding: binary" in head
    assert f"Content-ID: {kind.parameters['start']}" in head


@given(st.lists(st.binary(max_size=200), max_size=3))
@settings(max_examples=40)
def test_the_email_package_reads_what_we_write(documents):
    parts = [(f"doc{number}@essai", content, len(content)) for number, content in enumerate(documents)]
    outer, pieces, _ = write_related(ROOT, parts, "urn:a")
    message = email.message_from_bytes(b"Content-Type: " + outer.encode() + b"\r\n\r\n" + b"".join(pieces),
                                       policy=email.policy.HTTP)
    assert not message.defects
    root, *others = message.iter_parts()
    assert root["Content-ID"] == message.get_param("start")
    assert root.get_content_type() == message.get_param("type") == "application/xop+xml"
    assert root.get_payload(decode=True) == ROOT
    assert [(part["Content-ID"], part.get_payload(decode=True)) for part in others] == [
        (f"<{name}>", content) for name, content, _ in parts]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_we_read_what_the_email_package_writes(order):
    pdf = bytes(range(256)) * 20
    root = MIMEApplication(ROOT, "xop+xml", email.encoders.encode_7or8bit)
    root["Content-ID"] = "<root@essai>"
    first = MIMEApplication(pdf, "pdf")  # base64, 76 signs a line
    first["Content-ID"] = "<pdf@essai>"
    second = MIMEApplication(b"un = deux\t\r\n", "octet-stream", email.encoders.encode_quopri)
    second["Content-ID"] = "<qp@essai>"
    message = MIMEMultipart("related", type="application/xop+xml", start="<root@essai>")
    for index in order:
        message.attach([root, first, second][index])
    head, _, body = message.as_bytes(policy=email.policy.HTTP.clone(cte_type="8bit")).partition(b"\r\n\r\n")
    outer = email.message_from_bytes(head + b"\r\n\r\n", policy=email.policy.HTTP)["Content-Type"]
    whole = read_whole(str(outer), body)
    assert whole.attachments == {"pdf@essai": pdf, "qp@essai": b"un = deux\t\r\n"}
    assert whole.root == ROOT


@pytest.mark.parametrize("parts", [
    [("a\r\nX: y", b"", 0)], [("a>", b"", 0)], [("a b", b"", 0)], [("", b"", 0)], [("é", b"", 0)],
    [("a", b"", 0), ("a", b"", 0)], [("x" * 300, b"", 0)], [('a"', b"", 0)],
])
def test_ids_that_would_break_the_package_are_a_mistake_of_ours(parts):
    with pytest.raises(ValueError, match=r"header|Content-ID"):
        write_related(ROOT, parts, "urn:a")


def test_a_content_of_another_size_than_announced_is_not_ended():
    _, pieces, _ = write_related(ROOT, [("a", iter([b"12", b"3"]), 4)], "urn:a")
    got = []
    with pytest.raises(ValueError, match="4 bytes announced, 3 given"):
        got.extend(iter(pieces))
    _, pieces, length = write_related(ROOT, [("a", iter([b"12", b"3"]), 3)], "urn:a")
    assert sum(map(len, pieces)) == length


def test_a_boundary_that_occurs_is_drawn_again(monkeypatch):
    draws = iter(["00", "11", "22"])
    monkeypatch.setattr(mtom.secrets, "token_hex", lambda _size: next(draws))
    outer, _, _ = write_related(b"volet-00", [("a", b"--volet-11", 10)], "urn:a")
    assert 'boundary="volet-22"' in outer


# --- what is legal ---------------------------------------------------------------------------------------------

LEGAL = {
    "unquoted": (CONTENT_TYPE.replace('"', ""), VALID),
    "names in capitals, other order": (
        'MULTIPART/Related;BOUNDARY==_limite ;Start-Info="application/soap+xml";START="<root@essai>";'
        'Type="application/XOP+xml"', VALID),
    "start without angle brackets": (CONTENT_TYPE.replace("<root@essai>", "root@essai"), VALID),
    "no start: the first part": (CONTENT_TYPE.replace('start="<root@essai>"; ', ""), VALID),
    "start-info of CXF": (
        CONTENT_TYPE.replace('"application/soap+xml"', '"application/soap+xml; action=\\"urn:essai\\""'), VALID),
    "trailing semicolon": (CONTENT_TYPE + " ; ", VALID),
    "unknown parameter": (CONTENT_TYPE + "; charset=utf-8", VALID),
    ".NET boundary": (CONTENT_TYPE.replace("=_limite", "uuid:0f3b-11+id=17"),
                      package(ROOT_PART, DOCUMENT_PART, boundary="uuid:0f3b-11+id=17")),
    "boundary with regex signs": (CONTENT_TYPE.replace("=_limite", "(.*)[a?"),
                                  package(ROOT_PART, DOCUMENT_PART, boundary="(.*)[a?")),
    "boundary with a blank inside": (CONTENT_TYPE.replace("=_limite", "a b"),
                                     package(ROOT_PART, DOCUMENT_PART, boundary="a b")),
    "empty line before": (CONTENT_TYPE, b"\r\n" + VALID),
    "bare line feed before": (CONTENT_TYPE, b"\n" + VALID),
    "preamble": (CONTENT_TYPE, b"This is a multi-part message.\r\n-- =_limite no --=_limite\r\n" + VALID),
    "epilogue": (CONTENT_TYPE, VALID + b"\r\nAnything\r\n--=_limite\r\n"),
    "no line end at the end": (CONTENT_TYPE, VALID[:-2]),
    "half a line end at the end": (CONTENT_TYPE, VALID[:-1]),
    "blanks after the boundary": (CONTENT_TYPE, VALID.replace(b"--=_limite\r\n", b"--=_limite \t \r\n")),
    "blanks after the last boundary": (CONTENT_TYPE, VALID.replace(b"limite--", b"limite-- \t")),
    "root last": (CONTENT_TYPE, package(DOCUMENT_PART, ROOT_PART)),
    "header names in capitals": (
        CONTENT_TYPE, VALID.replace(b"Content-ID", b"CONTENT-Id").replace(b"binary", b"BINARY")),
    "folded header": (CONTENT_TYPE, VALID.replace(b"charset=", b"\r\n\tcharset=").replace(b"; type", b";\r\n type")),
    "blank before the colon": (CONTENT_TYPE, VALID.replace(b"Content-ID:", b"Content-ID :")),
    "no Content-Transfer-Encoding": (CONTENT_TYPE, VALID.replace(b"Content-Transfer-Encoding: binary\r\n", b"")),
    "8bit": (CONTENT_TYPE, VALID.replace(b"binary", b"8bit")),
    "base64": (CONTENT_TYPE, package(ROOT_PART, (DOCUMENT_PART[0].replace("binary", "base64"), b"Ym9u\r\nam91\tcg0K"))),
    "quoted-printable": (CONTENT_TYPE, package(
        ROOT_PART, (DOCUMENT_PART[0].replace("binary", "Quoted-Printable"), b"bon=\r\njo=75r   \r\n"))),
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_variants(name):
    content_type, body = LEGAL[name]
    expected = ({"doc@essai": b"bonjour\r\n"}, ROOT, [])
    assert read(content_type, body) == expected
    assert read(content_type, body, *range(len(body))) == expected


def test_odd_packages_are_read_with_warnings():
    lines = package((ROOT_PART[0], ROOT), (DOCUMENT_PART[0], b"bonjour\n"), eol="\n")
    assert read(CONTENT_TYPE, lines) == ({"doc@essai": b"bonjour\n"}, ROOT, ["V-MTOM-LINE-ENDS-LF"])
    assert read(CONTENT_TYPE, lines, *range(len(lines)))[0] == {"doc@essai": b"bonjour\n"}
    assert read(CONTENT_TYPE.replace("xop+xml", "soap+xml"), VALID)[2] == ["V-MTOM-TYPE"]
    assert read(CONTENT_TYPE.replace("application/soap+xml", "text/xml"), VALID)[2] == ["V-MTOM-START-INFO"]
    assert read(CONTENT_TYPE, VALID.replace(b"application/xop+xml", b"application/soap+xml"))[2] == ["V-MTOM-ROOT-TYPE"]
    assert read(PLAIN_TYPE, VALID)[2] == ["V-MTOM-TYPE", "V-MTOM-START-INFO"]
    assert read(PLAIN_TYPE, package(("", ROOT)))[1:] == (ROOT, ["V-MTOM-TYPE", "V-MTOM-START-INFO", "V-MTOM-ROOT-TYPE"])


def test_empty_contents():
    for eol in ("\r\n", "\n"):
        body = package((ROOT_PART[0], b""), (DOCUMENT_PART[0], b""), eol=eol)
        assert read(CONTENT_TYPE, body)[:2] == ({"doc@essai": b""}, b"")
        shared = body.replace(f"{eol * 3}--".encode(), f"{eol * 2}--".encode())  # blank line = end of line
        assert shared != body
        assert read(CONTENT_TYPE, shared, *range(len(shared)))[:2] == ({"doc@essai": b""}, b"")


def test_a_nested_multipart_is_content():
    inner = package(ROOT_PART, boundary="=_dedans")
    body = package(ROOT_PART, ("Content-ID: <doc@essai>|Content-Type: multipart/mixed; boundary==_dedans", inner))
    assert read(CONTENT_TYPE, body)[0] == {"doc@essai": inner}


def test_a_header_in_latin_1_is_read():
    changed = VALID.replace(b"Content-ID: <root", b"X-A: \xe9\r\nX-B: \xc3\xa9\r\nContent-ID: <root")
    start = Reader(CONTENT_TYPE).feed(changed)[0]
    assert dict(start.headers) | {"x-a": "é", "x-b": "é"} == dict(start.headers)


def test_headers_are_handed_on():
    start = Reader(CONTENT_TYPE).feed(VALID)[0]
    assert start == PartStart((("content-type", 'application/xop+xml; charset=UTF-8; type="application/soap+xml"'),
                               ("content-id", "<root@essai>")), "root@essai", "binary", True)


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable"]),
       st.lists(st.integers(0, 900), max_size=6))
def test_transfer_encodings_are_undone_however_they_are_cut(content, encoding, cuts):
    # quopri leaves a carriage return as it is, which only a line end may be
    coded = base64.encodebytes(content) if encoding == "base64" else quopri.encodestring(content).replace(b"\r", b"=0D")
    body = package(ROOT_PART, (f"Content-ID: <d>|Content-Transfer-Encoding: {encoding}", coded))
    assert read(CONTENT_TYPE, body, *[min(cut, len(body)) for cut in cuts])[0] == {"d": content}


def test_the_action_is_found_where_stacks_put_it():
    assert read_whole(CONTENT_TYPE, VALID).action == "urn:essai"
    assert read_whole(PLAIN_TYPE, VALID).action == ""
    inside = VALID.replace(b'"application/soap+xml"', b'"application/soap+xml; action=\\"urn:dedans\\""')
    assert read_whole(PLAIN_TYPE, inside).action == "urn:dedans"


# --- what is illegal -------------------------------------------------------------------------------------------

FULL_ID = "Content-ID: <doc@essai>"
ILLEGAL = {
    "no content type": ("", VALID, "V-MTOM-CONTENT-TYPE"),
    "no media type": ("boundary=x", VALID, "V-MTOM-CONTENT-TYPE"),
    "boundary twice": (CONTENT_TYPE + "; boundary=other", VALID, "V-MTOM-CONTENT-TYPE"),
    "unclosed quote": (CONTENT_TYPE[:-1], VALID, "V-MTOM-CONTENT-TYPE"),
    "control character": (CONTENT_TYPE + "; a=\x00", VALID, "V-MTOM-CONTENT-TYPE"),
    "line break": (CONTENT_TYPE + ";\r\n a=b", VALID, "V-MTOM-CONTENT-TYPE"),
    "10 kB of boundary": (CONTENT_TYPE.replace("=_limite", "x" * 10_000), VALID, "V-MTOM-CONTENT-TYPE"),
    "other media type": ("text/xml; charset=utf-8", ROOT, "V-MTOM-MEDIA-TYPE"),
    "other multipart": (CONTENT_TYPE.replace("related", "form-data"), VALID, "V-MTOM-MEDIA-TYPE"),
    "no boundary": ("multipart/related; type=x", VALID, "V-MTOM-BOUNDARY"),
    "empty boundary": ('multipart/related; boundary=""', VALID, "V-MTOM-BOUNDARY"),
    "71 signs of boundary": (CONTENT_TYPE.replace("=_limite", "x" * 71), VALID, "V-MTOM-BOUNDARY"),
    "boundary ending in a blank": (CONTENT_TYPE.replace("=_limite", "x "), VALID, "V-MTOM-BOUNDARY"),
    "boundary not ASCII": (CONTENT_TYPE.replace("=_limite", "é"), VALID, "V-MTOM-BOUNDARY"),
    "empty body": (CONTENT_TYPE, b"", "V-MTOM-BOUNDARY-NOT-FOUND"),
    "other boundary": (CONTENT_TYPE, VALID.replace(b"=_limite", b"=_autre"), "V-MTOM-BOUNDARY-NOT-FOUND"),
    "half a boundary": (CONTENT_TYPE, b"--=_lim", "V-MTOM-BOUNDARY-NOT-FOUND"),
    "cut in a header": (CONTENT_TYPE, VALID[:40], "V-MTOM-TRUNCATED"),
    "cut in a boundary line": (CONTENT_TYPE, VALID[:10], "V-MTOM-TRUNCATED"),
    "cut in a content": (CONTENT_TYPE, VALID[:-20], "V-MTOM-TRUNCATED"),
    "last boundary unclosed": (CONTENT_TYPE, VALID[:-3], "V-MTOM-TRUNCATED"),
    "no closing boundary": (CONTENT_TYPE, VALID[:-4] + b"\r\n", "V-MTOM-TRUNCATED"),
    "boundary line goes on": (CONTENT_TYPE, VALID.replace(b"limite\r\nContent-Type: t", b"limite2\r\nContent-Type: t"),
                              "V-MTOM-DELIMITER"),
    "closing boundary goes on": (CONTENT_TYPE, VALID.replace(b"limite--", b"limite--x"), "V-MTOM-DELIMITER"),
    "boundary and 2 kB of blanks": (CONTENT_TYPE, b"--=_limite" + b" " * 2000, "V-MTOM-DELIMITER"),
    "boundary starts a line of a content": (CONTENT_TYPE, package(ROOT_PART, (FULL_ID, b"a\r\n--=_limite b\r\n")),
                                            "V-MTOM-DELIMITER"),
    "LF before a boundary among CR LF": (CONTENT_TYPE, VALID.replace(b"\r\n--=_limite--", b"\n--=_limite--"),
                                         "V-MTOM-LINE-ENDS"),
    "LF after a boundary among CR LF": (CONTENT_TYPE, VALID.replace(b"=_limite\r\nContent-Type: t",
                                                                   b"=_limite\nContent-Type: t"), "V-MTOM-LINE-ENDS"),
    "CR LF before a boundary among LF": (CONTENT_TYPE, package(ROOT_PART, (FULL_ID, b"a\r"), eol="\n"),
                                         "V-MTOM-LINE-ENDS"),
    "header without a colon": (CONTENT_TYPE, VALID.replace(b"Content-ID:", b"Content-ID"), "V-MTOM-HEADER"),
    "NUL in a header": (CONTENT_TYPE, VALID.replace(b"<doc@", b"<doc\0@"), "V-MTOM-HEADER"),
    "bare LF in a header": (CONTENT_TYPE, VALID.replace(b"text/plain\r\n", b"text/plain\n"), "V-MTOM-HEADER"),
    "Content-ID twice in a part": (CONTENT_TYPE, VALID.replace(b"Content-Type: text/plain", b"Content-ID: <b>"),
                                   "V-MTOM-HEADER"),
    "encoding twice in a part": (CONTENT_TYPE, VALID.replace(b"Content-Type: text/plain",
                                                            b"Content-Transfer-Encoding: base64"), "V-MTOM-HEADER"),
    "a boundary in place of headers": (CONTENT_TYPE, b"--=_limite\r\n" + VALID, "V-MTOM-HEADER"),
    "9 kB of header": (CONTENT_TYPE, VALID.replace(b"text/plain", b"text/plain; a=" + b"x" * 9000),
                       "V-MTOM-HEADER-TOO-LARGE"),
    "51 parts": (CONTENT_TYPE, package(ROOT_PART, *[(f"Content-ID: <{n}>", b"") for n in range(50)]),
                 "V-MTOM-TOO-MANY-PARTS"),
    "Content-ID of two parts": (CONTENT_TYPE, package(ROOT_PART, DOCUMENT_PART, DOCUMENT_PART),
                                "V-MTOM-CONTENT-ID-TWICE"),
    "root twice": (CONTENT_TYPE, package(ROOT_PART, ROOT_PART), "V-MTOM-CONTENT-ID-TWICE"),
    "no Content-ID": (CONTENT_TYPE, package(ROOT_PART, ("Content-Type: text/plain", b"x")),
                      "V-MTOM-CONTENT-ID-ABSENT"),
    "gzip": (CONTENT_TYPE, VALID.replace(b"binary", b"gzip"), "V-MTOM-TRANSFER-ENCODING"),
    "base64 junk": (CONTENT_TYPE, VALID.replace(b"binary", b"base64").replace(b"bonjour", b"Zm9v*mFy"),
                    "V-MTOM-CONTENT"),
    "base64 cut": (CONTENT_TYPE, VALID.replace(b"binary", b"base64"), "V-MTOM-CONTENT"),
    "base64 after padding": (CONTENT_TYPE, VALID.replace(b"binary", b"base64").replace(b"bonjour", b"Zg==Zg=="),
                             "V-MTOM-CONTENT"),
    "quoted-printable junk": (CONTENT_TYPE, VALID.replace(b"binary", b"quoted-printable").replace(b"bonjour", b"a=ZZ"),
                              "V-MTOM-CONTENT"),
    "quoted-printable without lines": (CONTENT_TYPE, VALID.replace(b"binary", b"quoted-printable").replace(
        b"bonjour", b"a" * 9000), "V-MTOM-CONTENT"),
    "start names no part": (CONTENT_TYPE.replace("<root@essai>", "<other>"), VALID, "V-MTOM-ROOT-ABSENT"),
    "no part at all": (CONTENT_TYPE, b"--=_limite--\r\n", "V-MTOM-ROOT-ABSENT"),
    "root of unreadable type": (CONTENT_TYPE, VALID.replace(b"application/xop+xml", b"application"),
                                "V-MTOM-CONTENT-TYPE"),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_illegal_packages(name):
    content_type, body, code = ILLEGAL[name]
    assert refusal(content_type, body) == code
    with pytest.raises(Refused) as caught:
        read(content_type, body, *range(len(body)))
    assert caught.value.findings[0].code == code


def test_a_line_without_end_is_not_waited_for():
    decoder = encodings.QuotedPrintable()
    assert decoder.feed(b"a" * 4096) == b""
    with pytest.raises(ValueError, match="76 allowed"):
        decoder.feed(b"a")


@pytest.mark.parametrize(("limits", "code"), [
    (Limits(part=8), "V-MTOM-PART-TOO-LARGE"), (Limits(root=10), "V-MTOM-PART-TOO-LARGE"),
    (Limits(total=len(VALID) - 1), "V-MTOM-TOO-LARGE"), (Limits(parts=1), "V-MTOM-TOO-MANY-PARTS"),
    (Limits(header=20), "V-MTOM-HEADER-TOO-LARGE"),
])
def test_limits(limits, code):
    assert refusal(CONTENT_TYPE, VALID, limits) == code
    exact = Limits(parts=2, part=9, root=len(ROOT), total=len(VALID))
    assert read_whole(CONTENT_TYPE, VALID, exact).attachments == {"doc@essai": b"bonjour\r\n"}


def test_a_finding_says_where_and_what():
    with pytest.raises(Refused) as caught:
        read_whole(CONTENT_TYPE, VALID.replace(b"binary", b"gzip"))
    finding = caught.value.findings[0]
    assert (finding.where.part, finding.where.path, finding.received) == ("multipart", "part[2]", "gzip")
    assert "base64" in finding.expected
    assert finding.rule.fault == "Sender"


def test_a_reader_closed_or_refused_takes_no_more():
    reader = Reader(CONTENT_TYPE)
    reader.feed(VALID)
    reader.close()
    with pytest.raises(RuntimeError):
        reader.feed(b"")
    reader = Reader(CONTENT_TYPE)
    with pytest.raises(Refused):
        reader.feed(VALID.replace(b"binary", b"gzip"))
    with pytest.raises(RuntimeError):
        reader.feed(b"")


# --- bounded time and memory -----------------------------------------------------------------------------------


def test_a_hundred_megabytes_pass_in_two():
    chunk, size = bytes(64 * 1024), 100 * 1024 * 1024
    outer, pieces, _ = write_related(ROOT, [("doc", (chunk for _ in range(size // len(chunk))), size)], "urn:a")
    reader, received = Reader(outer), 0
    tracemalloc.start()
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, PartData):
                received += len(event.data)
    reader.close()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert received == size + len(ROOT)
    assert peak < 2 * 1024 * 1024


@pytest.mark.parametrize("filler", [b"-" * 4_000_000, b"\r\n--" * 1_000_000, b"\n" * 4_000_000, b"\r" * 4_000_000,
                                    b"\r\n--=_limit" * 300_000])
def test_contents_that_look_like_boundaries_cost_no_more(filler):
    began = time.process_time()
    assert read_whole(CONTENT_TYPE, package(ROOT_PART, (FULL_ID, filler))).attachments == {"doc@essai": filler}
    assert time.process_time() - began < 1


def test_a_hundred_thousand_parts_are_refused_at_once():
    began = time.process_time()
    many = b"".join(b"--=_limite\r\nContent-ID: <%d>\r\n\r\n\r\n" % number for number in range(100_000))
    assert refusal(CONTENT_TYPE, many) == "V-MTOM-TOO-MANY-PARTS"
    assert time.process_time() - began < 1


# --- xop:Include -----------------------------------------------------------------------------------------------


def included(xml: str) -> str:
    xml = xml.replace("<I ", '<I xmlns="http://www.w3.org/2004/08/xop/include" ')
    return mtom.include_href(parse(xml.encode())[-1])


@given(st.text(min_size=1, max_size=40).filter(str.isprintable))
def test_an_include_written_is_the_include_read(content_id):
    assert mtom.include_href(parse(f"<D>{mtom.include(content_id)}</D>".encode())[0]) == content_id


@pytest.mark.parametrize(("href", "content_id"), [
    ("cid:doc@essai", "doc@essai"), ("CID:doc@essai", "doc@essai"), ("cid:doc%40essai", "doc@essai"),
    ("cid:http%3A%2F%2Fessai%2F1", "http://essai/1"), ("cid:a+b", "a+b"), ("cid:..%2F..%2Fetc%2Fx", "../../etc/x"),
    ("cid:%2e%2e", ".."), ("cid:100%25", "100%"), ("cid:%C3%A9", "é"), ("cid:a%b", "a%b"),
])
def test_ids_of_includes(href, content_id):
    assert included(f"<D> <I href='{href}'/>\n</D>") == content_id


@pytest.mark.parametrize("xml", [
    "<D><I href='http://essai/doc'/></D>", "<D><I href='file:///etc/passwd'/></D>", "<D><I href='doc@essai'/></D>",
    "<D><I href='cid:'/></D>", "<D><I href='cid:%00'/></D>", "<D><I href='cid:%ff'/></D>",
    "<D><I href='cid:a%0Ab'/></D>",
    "<D><I other=''/></D>", "<D>text<I href='cid:a'/></D>", "<D><I href='cid:a'/>text</D>",
    "<D><b/><I href='cid:a'/></D>",
])
def test_includes_that_are_refused(xml):
    with pytest.raises(Refused) as caught:
        included(xml)
    assert caught.value.findings[0].code == "V-MTOM-INCLUDE"


def test_an_include_that_is_the_whole_document_is_refused():
    with pytest.raises(Refused):
        mtom.include_href(parse(mtom.include("a").encode()))


# --- messages with and without a package -------------------------------------------------------------------------


def test_a_bare_envelope_is_a_message_too():
    parts = soap.read_message('application/soap+xml; charset=UTF-8; action="urn:a"', ROOT)
    assert (parts.root, parts.attachments, parts.warnings) == (ROOT, {}, ())
    assert (parts.charset, parts.action) == ("UTF-8", "urn:a")
    assert soap.read_message(CONTENT_TYPE, VALID).attachments == {"doc@essai": b"bonjour\r\n"}
    assert [warning.code for warning in soap.read_message("text/xml", ROOT).warnings] == ["V-SOAP-MEDIA-TYPE"]


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data; boundary=x", "text/html"])
def test_other_messages_are_refused(content_type):
    with pytest.raises(Refused) as caught:
        soap.read_message(content_type, ROOT)
    assert caught.value.findings[0].code == "V-MTOM-MEDIA-TYPE"


@pytest.mark.parametrize("text", [
    "text/plain", "TEXT/XML; charset=utf-8", 'a/b; c="d;e"; f=g', 'a/b; c="d\\"e"', 'multipart/related; boundary="a=b"',
])
def test_content_types_as_the_email_package_reads_them(text):
    message = email.message_from_string(f"Content-Type: {text}\n\n")
    ours = parse_content_type(text)
    assert ours.media_type == message.get_content_type()
    assert dict(ours.parameters) == {name.lower(): value for name, value in message.get_params()[1:]}
