"""The entries of ``hosts``: what each covers, and what no spelling of another host gets through."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from aethr.base.network import Hosts, address, host_rule

COVERED = [
    ("api.openai.com", "https://api.openai.com/v1"),
    ("api.openai.com", "https://API.OpenAI.com./v1"),
    ("API.OPENAI.COM.", "https://api.openai.com"),
    ("api.openai.com", "http://api.openai.com:8080"),
    ("api.openai.com:443", "https://api.openai.com"),
    ("api.openai.com:80", "http://api.openai.com"),
    ("api.openai.com", "https://user:password@api.openai.com/v1"),
    ("*.example.com", "https://a.example.com"),
    ("*.example.com", "https://a.b.EXAMPLE.com."),
    ("*.example.com:8443", "https://a.example.com:8443"),
    ("*.internal", "https://models.internal"),
    ("bücher.example", "https://xn--bcher-kva.example"),
    ("XN--bcher-kva.example", "https://bücher.example"),
    ("*.bücher.example", "https://a.xn--bcher-kva.example"),
    ("localhost", "http://localhost:11434"),
    ("localhost", "http://127.0.0.1:11434"),
    ("localhost:11434", "http://[::1]:11434"),
    ("[::1]", "http://[0:0:0:0:0:0:0:1]:80"),
    ("[2001:DB8::1]:8000", "http://[2001:db8:0::1]:8000"),
    ("127.0.0.1", "http://127.0.0.1"),
]
OTHERS = [
    ("api.openai.com", "https://evil-openai.com"),
    ("api.openai.com", "https://api.openai.com.evil.com"),
    ("api.openai.com", "https://evil.com/api.openai.com"),
    ("api.openai.com", "https://evil.com?api.openai.com"),
    ("api.openai.com", "https://evil.com#api.openai.com"),
    ("api.openai.com", "https://api.openai.com@evil.com"),
    ("api.openai.com", "https://api.openai.com:443@evil.com/v1"),
    ("api.openai.com", "https://xapi.openai.com"),
    ("api.openai.com", "https://a.api.openai.com"),
    ("api.openai.com", "https://openai.com"),
    ("api.openai.com", "https://api-openai.com"),
    ("api.openai.com:443", "https://api.openai.com:8443"),
    ("api.openai.com:443", "http://api.openai.com"),
    ("*.example.com", "https://example.com"),
    ("*.example.com", "https://evilexample.com"),
    ("*.example.com", "https://a.example.com.evil.com"),
    ("*.openai.com", "https://api.оpenai.com"),  # a Cyrillic letter
    ("localhost", "http://127.0.0.2"),
    ("localhost", "http://localhost.evil.com"),
    ("localhost", "http://evil.localhost"),
    ("localhost", "http://[::ffff:127.0.0.1]"),
    ("127.0.0.1", "http://localhost"),
    ("127.0.0.1", "http://127.1"),
    ("127.0.0.1", "http://2130706433"),
    ("[::1]", "http://[::2]"),
    ("[::1]", "http://127.0.0.1"),
]


@pytest.mark.parametrize(("rule", "url"), COVERED)
def test_a_host_is_covered_in_every_spelling(rule: str, url: str) -> None:
    found = address(url)
    assert Hosts.of([rule]).allow(found.scheme, found.hostname, found.port)


@pytest.mark.parametrize(("rule", "url"), OTHERS)
def test_no_other_host_is_covered(rule: str, url: str) -> None:
    found = urlsplit(url)
    assert not Hosts.of([rule, "*.models.example"]).allow(found.scheme, found.hostname, found.port)


@pytest.mark.parametrize("host", [None, "", ".", "a..b", "xn--\ud800", "ａpi.openai.com"])
def test_what_is_not_a_host_is_not_covered(host: str | None) -> None:
    assert not Hosts.of(["*.example.com", "api.openai.com", "localhost"]).allow("https", host, None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("https://api.openai.com", "more than a host"),
        ("api.openai.com/v1", "more than a host"),
        ("user@api.openai.com", "more than a host"),
        ("api.openai.com?x", "more than a host"),
        ("::1", "in brackets"),
        ("2001:db8::1", "in brackets"),
        ("*", "it is not a host"),
        ("*.", "it is not a host"),
        ("a.*.com", "it is not a host"),
        ("*a.com", "it is not a host"),
        ("*.127.0.0.1", "nothing is below an IP address"),
        ("*.[::1]", "nothing is below an IP address"),
        ("[::x]", "it is not an IPv6 address"),
        ("1.2.3.400", "it is not an IPv4 address"),
        ("a..b", "not a name that can be looked up"),
        ("a b", "not a name that can be looked up"),
        ("a:0", "its port is not one of 1 to 65535"),
        ("a:65536", "its port is not one of 1 to 65535"),
        ("a:b", "it is not a host"),
    ],
)
def test_what_is_not_an_entry_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        host_rule(text)
