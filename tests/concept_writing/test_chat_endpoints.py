"""Addresses, and the key: where it comes from, and that it is nowhere to be seen."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from steering.concept_writing.chat import ChatClient
from steering.concept_writing.endpoints import ChatEndpoint, chat_endpoint
from steering.errors import DataError, EndpointError
from tests.chat_servers import KEY


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com", "https://api.openai.com/v1/chat/completions"),
        ("http://[::1]:8080/", "http://[::1]:8080/v1/chat/completions"),
        ("http://localhost:8080/api/v1/", "http://localhost:8080/api/v1/chat/completions"),
        ("http://127.0.0.1/v1/chat/completions", "http://127.0.0.1/v1/chat/completions"),
    ],
)
def test_address_is_completed(address, url):
    endpoint = chat_endpoint(address, "m", {"OPENAI_API_KEY": f" {KEY}\n"}, "OPENAI_API_KEY")
    assert (endpoint.url, endpoint.key) == (url, KEY)


def test_default_variable_may_be_absent_and_another_may_not():
    assert chat_endpoint("http://gpu:8000", "m", {}, "OPENAI_API_KEY").key == ""
    with pytest.raises(DataError, match="--key-variable 'MINE': the environment has no such variable"):
        chat_endpoint("http://gpu:8000", "m", {"MINE": " "}, "MINE")


@pytest.mark.parametrize(
    ("address", "key", "message"),
    [
        ("http://gpu:8000", KEY, "would travel unencrypted to gpu; give an https address"),
        ("http://127.0.0.1.example.org", KEY, "would travel unencrypted to 127.0.0.1.example.org"),
        ("https://h", f"{KEY} x", "holds a space or a character that no HTTP header may hold"),
        ("https://h", f"{KEY}é", "holds a space or a character that no HTTP header may hold"),
        (f"https://me:{KEY}@h/v1", "", "--endpoint must hold neither a user's name nor a password"),
        (f"https://{KEY}@h/v1", "", "--endpoint must hold neither a user's name nor a password"),
        (f"https://h/v1?key={KEY}", "", "--endpoint must hold neither"),
        (f"https://h/v1#{KEY}", "", "--endpoint must hold neither"),
        ("ftp://h", "", "--endpoint 'ftp://h': give an address such as"),
        ("api.openai.com", "", "--endpoint 'api.openai.com': give an address such as"),
        ("https://", "", "--endpoint 'https://': give"),
        ("http://[", "", "--endpoint is not an address"),
        ("http://h:port", "", "--endpoint is not an address"),
    ],
)
def test_what_cannot_be_used_is_one_message_without_the_key(address, key, message):
    with pytest.raises(DataError) as caught:
        chat_endpoint(address, "m", {"OPENAI_API_KEY": key}, "OPENAI_API_KEY")
    assert message in str(caught.value)
    assert KEY not in str(caught.value)


def test_model_needs_a_name():
    with pytest.raises(DataError, match="--model is empty"):
        chat_endpoint("https://h", " ", {}, "OPENAI_API_KEY")


def test_key_is_neither_in_the_representation_nor_in_texts_that_echo_it():
    key = 'sk-"quoted"/+\\'
    endpoint = ChatEndpoint("u", "m", key)
    assert key not in repr(endpoint)
    echoes = f"Bearer {key}, {json.dumps({'key': key})} and {quote(key, safe='')}"
    assert endpoint.redacted(echoes) == 'Bearer [key], {"key": "[key]"} and [key]'
    assert ChatEndpoint("u", "m").redacted("as it is") == "as it is"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:1"),
        ("HTTPS_PROXY", "http://host:port"),
        ("HTTPS_PROXY", "http://[::1"),
        ("SSL_CERT_FILE", "/nowhere.pem"),
    ],
)
def test_environment_that_cannot_be_used_is_one_message(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(EndpointError, match="the environment's proxy or certificates cannot be used"):
        ChatClient(ChatEndpoint("https://127.0.0.1/v1/chat/completions", "m", KEY), print)
