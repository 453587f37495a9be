"""The XML reader: nothing is fetched, nothing explodes, everything wrong is Refused with its place."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xds import xml
from xds.findings import Finding, Refused
from xds.xml import parse


def refused(data: bytes, **arguments: object) -> Finding:
    began = time.process_time()
    with pytest.raises(Refused) as caught:
        parse(data, "essai", **arguments)
    assert time.process_time() - began < 0.5
    (finding,) = caught.value.findings
    assert finding.where.part == "essai"
    assert finding.rule.fault == "Sender"
    return finding


LOL = b"".join(b'<!ENTITY l%d "%s">' % (n, b"&l%d;" % (n - 1) * 10) for n in range(1, 10))
BOMB = b'<!DOCTYPE a [<!ENTITY l0 "lol">' + LOL + b"]>"


@pytest.mark.parametrize(("data", "code"), [
    (b"", "V-XML-NOT-WELL-FORMED"), (b"   ", "V-XML-NOT-WELL-FORMED"), (b"<a>", "V-XML-NOT-WELL-FORMED"),
    (b"<a/><b/>", "V-XML-NOT-WELL-FORMED"), (b"<a>\0</a>", "V-XML-NOT-WELL-FORMED"),
    (b"<a/>\0", "V-XML-NOT-WELL-FORMED"), (b"{}", "V-XML-NOT-WELL-FORMED"),
    (b"<a>&unknown;</a>", "V-XML-NOT-WELL-FORMED"), (b"<a>\xff</a>", "V-XML-NOT-WELL-FORMED"),
    (b"<a b='1' b='2'/>", "V-XML-NOT-WELL-FORMED"), (b"<p:a/>", "V-XML-NOT-WELL-FORMED"),
    (b"<a>&#0;</a>", "V-XML-NOT-WELL-FORMED"), (b"%PDF-1.4", "V-XML-NOT-WELL-FORMED"),
    (b"<!DOCTYPE a><a/>", "V-XML-DOCTYPE"), (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "V-XML-DOCTYPE"),
    (b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/x.dtd"><a/>', "V-XML-DOCTYPE"),
    (b'<!DOCTYPE a [<!ATTLIST a id ID "x">]><a/>', "V-XML-DOCTYPE"),
    (BOMB + b"<a>&l9;</a>", "V-XML-LIMIT"), (BOMB + b"<a b='&l9;'/>", "V-XML-LIMIT"),
    (b'<!DOCTYPE a [<!ENTITY b "' + b"x" * 100_000 + b'">]><a>' + b"&b;" * 10_000 + b"</a>", "V-XML-LIMIT"),
    (b"<a>" * 5000 + b"</a>" * 5000, "V-XML-LIMIT"), (b"<a>" + b"x" * 11_000_000 + b"</a>", "V-XML-LIMIT"),
    (b"<a b='" + b"x" * 11_000_000 + b"'/>", "V-XML-LIMIT"),
    (b'<?xml version="1.0" encoding="UTF-7"?><a/>', "V-XML-ENCODING"),
    (b'<?xml version="1.0" encoding="EBCDIC-CP-FR"?><a/>', "V-XML-ENCODING"),
    (b'<?xml version="1.0"' + b" " * 300 + b'encoding="UTF-7"?><a/>', "V-XML-ENCODING"),
    (b'\xef\xbb\xbf<?xml version="1.0" encoding="UTF-7"?><a/>', "V-XML-ENCODING"),
    ("<a/>".encode("utf-32"), "V-XML-ENCODING"), ("<?xml version='1.0'?><a/>".encode("cp037"), "V-XML-NOT-WELL-FORMED"),
    ("<a/>".encode("utf-16-le"), "V-XML-NOT-WELL-FORMED"),
])
def test_one_attack_one_refusal(data, code):
    assert refused(data).code == code


@pytest.mark.parametrize("declaration", [
    '<!ENTITY x SYSTEM "{uri}">]><a>&x;</a>', '<!ENTITY % x SYSTEM "{uri}"> %x;]><a/>', ']><a xml:base="{uri}">&x;</a>',
])
def test_no_file_is_read(declaration, tmp_path: Path):
    canary = tmp_path / "canary.txt"
    canary.write_text("NEVER-SHOWN")
    finding = refused(f"<!DOCTYPE a [{declaration.format(uri=canary.as_uri())}".encode())
    assert "NEVER-SHOWN" not in str(finding.as_dict())


def test_no_include_nor_stylesheet_nor_schema_is_followed(tmp_path: Path):
    canary = tmp_path / "canary.xml"
    canary.write_text("<never/>")
    root = parse(f'<?xml-stylesheet href="{canary.as_uri()}"?><a xmlns:xi="http://www.w3.org/2001/XInclude" '
                 'xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" '
                 f'xsi:noNamespaceSchemaLocation="{canary.as_uri()}">'
                 f'<xi:include href="{canary.as_uri()}"/></a>'.encode())
    assert root.find(".//never") is None


@pytest.mark.parametrize("data", [
    "<a>é</a>".encode(), b"\xef\xbb\xbf<a>\xc3\xa9</a>", "<a>é</a>".encode("utf-16"),
    '<?xml version="1.0" encoding="UTF-16"?><a>é</a>'.encode("utf-16"),
    '<?xml version="1.0" encoding="UTF-16"?><a>é</a>'.encode("utf-16-be"),
    b'<?xml version="1.0" encoding="iso-8859-1"?><a>\xe9</a>',
    b'<?xml version="1.0" encoding="windows-1252"?><a>\xe9</a>',
    b"<?xml version='1.0' encoding='us-ascii'?><a>&#233;</a>", b"<a><![CDATA[\xc3\xa9]]></a>",
])
def test_encodings_that_are_read(data):
    assert parse(data).text == "é"


@pytest.mark.parametrize("charset", sorted(xml.ENCODINGS))
def test_charsets_of_the_content_type_that_are_read(charset):
    data = "<a>e</a>".encode(charset)
    assert parse(data, charset=charset.lower()).text == "e"


@pytest.mark.parametrize(("data", "charset", "text"), [
    (b"<a>\xe9</a>", "ISO-8859-1", "é"), (b'<?xml version="1.0" encoding="UTF-8"?><a>\xe9</a>', "iso-8859-1", "é"),
    (b'<?xml version="1.0" encoding="ISO-8859-1"?><a>\xc3\xa9</a>', "utf-8", "é"),
    ("<a>é</a>".encode("utf-16"), "UTF-8", "é"), (b"\xef\xbb\xbf<a>\xc3\xa9</a>", "ISO-8859-1", "é"),
    ("<a>é</a>".encode("utf-16-le"), "utf-16le", "é"),
])
def test_the_charset_outweighs_the_declaration_and_yields_to_the_mark(data, charset, text):
    assert parse(data, charset=charset).text == text


def test_charsets_that_are_refused():
    for charset in ("utf-7", "ibm037", "x" * 10_000, "\0", "é"):
        assert refused(b"<a/>", charset=charset).code == "V-XML-ENCODING"
    assert parse(b"<a/>", charset="UTF-8").tag == "a"  # no trace of the others in the parser


def test_size():
    assert refused(b"<a>123</a>", max_bytes=9).code == "V-XML-TOO-LARGE"
    assert parse(b"<a>123</a>", max_bytes=10).text == "123"


@pytest.mark.parametrize("data", [
    b"<a " + b" ".join(b'a%d=""' % n for n in range(100_000)) + b"/>",
    b"<a>" + b"<b/>" * 300_000 + b"</a>",
    b"<a " + b" ".join(b'xmlns:a%d="urn:a"' % n for n in range(50_000)) + b"/>",
    b"<a>" + b"<!---->" * 300_000 + b"</a>",
])
def test_floods_pass_in_time(data):
    began = time.process_time()
    assert parse(data).tag == "a"
    assert time.process_time() - began < 1.5


@given(st.binary(max_size=100), st.sampled_from(["", "UTF-8", "UTF-16", "ISO-8859-1", "UTF-7"]))
def test_no_bytes_do_more_than_be_refused(data, charset):
    for text in (data, b"<a>" + data + b"</a>", b"<?xml" + data + b"?><a/>", b"<!DOCTYPE a [" + data + b"]><a/>"):
        with suppress(Refused):
            parse(text, charset=charset)


def test_a_refusal_says_where():
    finding = refused(b"<a>\n<b>\n</c></a>")
    assert (finding.where.line, finding.where.column > 0) == (3, True)
    assert "b" in finding.received


def test_a_big_base64_is_told_to_use_mtom():
    assert "MTOM" in refused(b"<a>" + b"QUJD" * 3_000_000 + b"</a>").as_dict()["hint_en"]


# --- looking around ----------------------------------------------------------------------------------------------

TREE = (b'<?xml version="1.0"?>\n<a xmlns="urn:a">\n  <b/><!-- <b/> --><b x="1"\n y="2">'
        b"<c>1<!-- no -->2<?no no?>3</c></b>\n<?pi <b/> ?><![CDATA[<b/>]]><d/></a>")


def test_names_texts_and_paths():
    root = parse(TREE)
    second = root.findall("{urn:a}b")[1]
    inner = second[0]
    assert xml.local_name(second) == "b"
    assert xml.local_name(root[1]) == ""
    assert xml.text_of(inner) == "123"
    assert xml.path_of(inner) == "/a/b[2]/c"
    assert xml.path_of(root) == "/a"
    assert (xml.where(inner, "p").line, xml.where(inner, "p").part, xml.where(inner).path) == (4, "p", "/a/b[2]/c")
    assert xml.where(inner, path="/x").path == "/x"


def test_values_keep_what_is_no_layout():
    assert xml.value_of(parse("<a> \n\t\u00a0x \r</a>".encode())) == "\u00a0x"


def test_columns_are_exact():
    root = parse(TREE)
    first, second = root.findall("{urn:a}b")
    found = xml.columns(TREE, [root, first, second, second[0], root[-1]])
    lines = TREE.decode().split("\n")
    for element, (line, column) in found.items():
        assert lines[line - 1][column - 1:].startswith(f"<{xml.local_name(element)}")
    assert len(found) == 5
    assert xml.columns(TREE, []) == {}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "iso-8859-1", "windows-1252", "iso-8859-15"])
def test_columns_in_other_encodings(encoding):
    data = f'<?xml version="1.0" encoding="{encoding}"?>\n<a>\n<b>é</b><c/></a>'.encode(encoding)
    root = parse(data)
    assert xml.columns(data, [root[1]])[root[1]][0] == 3


@given(st.text(max_size=60))
def test_what_is_escaped_is_read_as_it_was(text):
    try:
        escaped = xml.escape(text)
    except ValueError:
        assert xml.clean(text) != text
        return
    root = parse(f'<a b="{escaped}">{escaped}</a>'.encode())
    assert (root.text or "", root.get("b")) == (text, text)
    assert xml.clean(text) == escaped


@given(st.text(st.characters(), max_size=30))
def test_anything_cleaned_is_xml(text):
    parse(f'<a b="{xml.clean(text)}">{xml.clean(text)}</a>'.encode())


def test_what_cannot_stand_in_xml():
    for sign in ("\0", "\x1f", "\ud800", "\uffff"):
        with pytest.raises(ValueError, match="cannot stand in XML"):
            xml.escape(sign)
        assert xml.clean(sign) == " "
