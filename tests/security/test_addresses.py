"""Addresses that may be called: what is allowed, and every way of looking like it."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from security.addresses import AllowList, origin_of, parse

ALLOWED = AllowList.of(["https://good.example/hooks", "http://127.0.0.1:9080", "https://[2001:db8::1]:8443/a/"])


@pytest.mark.parametrize("address", [
    "https://good.example/hooks", "https://good.example:443/hooks/", "https://GOOD.example/hooks/a?b=c&d=%20",
    "HTTPS://good.example/hooks/a", "http://127.0.0.1:9080", "http://127.0.0.1:9080/", "http://127.0.0.1:9080/any?x",
    "https://[2001:DB8::1]:8443/a/b", "https://good.example/hooks/a%20b", "https://good.example/hooks?id=1"])
def test_what_is_allowed(address):
    assert ALLOWED.allows(address)


@pytest.mark.parametrize("address", [
    "", "https://", "https://good.example", "https://good.example/", "https://good.example/hooksandmore",
    "https://good.example/other", "http://good.example/hooks", "https://good.example:444/hooks",
    "https://good.example.evil.example/hooks", "https://evilgood.example/hooks", "https://good.example./hooks",
    "https://good.example@evil.example/hooks", "https://evil.example/https://good.example/hooks",
    "https://good.example:pass@evil.example/hooks", "https://evil.example#@good.example/hooks",
    "https://good.example/hooks#fragment", "https://good.example\\@evil.example/hooks",
    "https://good.example/hooks/../secret", "https://good.example/hooks/%2e%2e/secret",
    "https://good.example/hooks/.%2E/secret", "https://good.example/hooks/./a", "https://good.example/hooks%2f..%2fa",
    "https://good.example/hooks/%5c..", "https://good.example/hooks/%00", "https://good.example/hooks/%0d%0aX: y",
    "https://good.example/hooks/%zz", "https://good.example/hooks /a", " https://good.example/hooks",
    "https://good.example/hooks\n", "https://good.example/hooks\r\nHost: evil", "//good.example/hooks",
    "ftp://good.example/hooks", "file:///hooks", "https:good.example/hooks", "https:///good.example/hooks",
    "https://gооd.example/hooks", "https://good.example:0/hooks", "https://good.example:99999/hooks",
    "https://good..example/hooks", "https://127.0.0.1:9080/", "http://127.0.0.1:9080@evil.example/",
    "http://0x7f.1:9080/", "http://localhost:9080/", "https://[2001:db8::1]:8443/ab", "https://[2001:db8::2]:8443/a/",
    "https://good.example/hooks/" + "a" * 2048])
def test_what_is_not(address):
    assert not ALLOWED.allows(address)


def test_nothing_is_allowed_without_a_list():
    assert not AllowList().allows("https://good.example/hooks")


@pytest.mark.parametrize("prefix", ["", "good.example", "https://good.example/?a", "https://good.example/../", "ftp://a"])
def test_what_is_no_prefix(prefix):
    with pytest.raises(ValueError, match="is expected"):
        AllowList.of([prefix])


def test_the_origin_of_an_address():
    assert origin_of("HTTPS://Good.example/a") == "https://good.example:443"
    assert origin_of("http://a.example:80/") == origin_of("http://A.example") == "http://a.example:80"
    assert origin_of("nothing") == ""


signs = st.sampled_from([*"aAzZ09./:@?#&=%;[]\\ ~-_", "//", "..", "%2e", "%41", "https://", "a.example", ":80"])
texts = st.lists(signs, max_size=14).map("".join)


@given(st.one_of(texts, texts.map("http://a.example".__add__), texts.map("https://a.example:8443/".__add__)))
def test_the_library_that_sends_reads_an_address_the_same(text):
    """Else what was allowed and what is called could be two things."""
    address = parse(text)
    if address is not None:
        sent = urlsplit(requests.Request("POST", text).prepare().url)
        port = sent.port or {"http": 80, "https": 443}[sent.scheme]
        assert f"{sent.scheme}://{sent.hostname}:{port}" == address.origin
        assert unquote(sent.path) == unquote(address.path)
