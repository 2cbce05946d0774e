"""A server that misbehaves in every way gets bounded patience, and never shows the key. Nothing waits for real."""

from __future__ import annotations

import json
import logging
import socket
import time
import traceback
from contextlib import contextmanager
from email.utils import formatdate

import pytest

from steering.concept_writing.chat import ChatClient
from steering.concept_writing.endpoints import ChatEndpoint
from steering.errors import EndpointError
from tests.chat_servers import KEY, Answer, FakeTime, chat_server, completion

PAGE = b"<!DOCTYPE html><html><title>502</title><body>Bad gateway</body></html>"
HTML = {"Content-Type": "text/html; charset=utf-8"}
OK = Answer(completion("hello"))


def error(status: int, message: str = "slow down", **headers: str) -> Answer:
    return Answer(json.dumps({"error": {"message": message}}).encode(), status, headers)


def cut(handler) -> None:
    """Promise more than is sent."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [')


def hang_up(handler) -> None:
    handler.connection.shutdown(socket.SHUT_RDWR)


def huge(handler) -> None:
    """More than a mebibyte, and no end of it."""
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * (1 << 16))


def drip(handler) -> None:
    """A byte now and then, each in time."""
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    while True:
        handler.wfile.write(b"1\r\n \r\n")


class Asked:
    """A client of a server, what it said and how long it waited."""

    def __init__(self, server, time: FakeTime, timeout: float) -> None:
        self.server, self.slept, self.notes = server, time.slept, []
        endpoint = ChatEndpoint(f"{server.url}/chat/completions", "writer", KEY)
        self.client = ChatClient(endpoint, self.notes.append, timeout, time.clock)

    def ask(self):
        return self.client.ask("Tell.")

    def refusal(self) -> str:
        with pytest.raises(EndpointError) as caught:
            self.ask()
        assert KEY not in "".join(traceback.format_exception(caught.value))
        return str(caught.value)


@pytest.fixture
def east_of_greenwich(monkeypatch):
    """Local time nine hours ahead of UTC: dates that are read by it are others, and the last hours of 9999 are none."""
    monkeypatch.setenv("TZ", "JST-9")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@contextmanager
def asking(*script: Answer, time: FakeTime | None = None, timeout: float = 10.0):
    with chat_server(script) as server:
        asked = Asked(server, time or FakeTime(), timeout)
        with asked.client:
            yield asked
        assert KEY not in "".join(asked.notes)


def test_request_is_what_the_paper_and_the_protocol_have():
    with asking(OK) as asked:
        assert asked.ask().text == "hello"
    [(path, headers, body)] = asked.server.requests
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert headers["Content-Type"] == "application/json"
    assert body == {
        "model": "writer",
        "messages": [{"role": "user", "content": "Tell."}],
        "temperature": 0.7,
        "top_p": 1.0,
    }


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_key_of_an_unencrypted_request_passes_no_proxy(monkeypatch, variable):
    with chat_server([OK, OK]) as proxy, asking(OK) as asked:
        monkeypatch.delenv("NO_PROXY")
        monkeypatch.setenv(variable, proxy.url.removesuffix("/v1"))
        with ChatClient(ChatEndpoint(f"{asked.server.url}/chat/completions", "m", KEY), print) as client:
            assert client.ask("Tell.").text == "hello"
        assert (len(asked.server.requests), proxy.requests) == (1, [])
        with ChatClient(ChatEndpoint("http://elsewhere.invalid/v1/chat/completions", "m"), print) as keyless:
            assert keyless.ask("Tell.").text == "hello"
        assert len(proxy.requests) == 1


def test_no_key_is_no_header():
    with chat_server([OK]) as server, ChatClient(ChatEndpoint(f"{server.url}/chat/completions", "m"), print) as client:
        client.ask("Tell.")
    assert "Authorization" not in server.requests[0][1]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_what_passes_is_tried_again_after_a_wait(status):
    with asking(error(status), error(status), OK) as asked:
        assert asked.ask().text == "hello"
    assert asked.slept == [0.5, 1.0]
    assert asked.notes[0] == f"HTTP {status}: slow down; attempt 2 of 6 in 0 s"


def test_patience_ends_and_waits_double_up_to_it():
    with asking(*[error(500)] * 6, time=FakeTime(jitter=1.0)) as asked:
        assert asked.refusal() == (
            f"{asked.server.url}/chat/completions: no answer in 6 attempts; the last: HTTP 500: slow down"
        )
    assert asked.slept == [1, 2, 4, 8, 16]
    assert len(asked.server.requests) == 6


@pytest.mark.parametrize(
    ("asked_for", "waited"),
    [
        ("7", 7.0),
        ("0", 0.5),
        ("86400", 120.0),
        ("9" * 400, 120.0),
        (formatdate(1_700_000_030, usegmt=True), 30.0),
        (formatdate(1_600_000_000, usegmt=True), 0.5),
        ("Tue, 14 Nov 2023 22:13:50", 30.0),
        ("Fri, 31 Dec 9999 23:59:59", 120.0),
        ("Fri, 31 Dec 9999 23:59:59 -0000", 120.0),
        ("Fri, 31 Dec 9999 23:59:59 -2359", 120.0),
        ("soon", 0.5),
        ("-5", 0.5),
        ("²", 0.5),
    ],
)
@pytest.mark.usefixtures("east_of_greenwich")
def test_retry_after_is_honoured_up_to_a_cap(asked_for, waited):
    limited = error(429)
    limited.headers["Retry-After"] = asked_for.encode().decode("latin-1")
    with asking(limited, OK) as asked:
        assert asked.ask().text == "hello"
    assert asked.slept == [pytest.approx(waited)]


@pytest.mark.parametrize(
    ("act", "said"), [(cut, "no connection: "), (hang_up, "no connection: "), (drip, "the server took too long")]
)
def test_broken_and_endless_answers_are_tried_again(act, said):
    with asking(Answer(act=act), OK, time=FakeTime(step=1.0)) as asked:
        assert asked.ask().text == "hello"
    assert asked.notes[0].startswith(said)


def test_server_that_says_nothing_is_tried_again():
    with asking(Answer(act=lambda handler: handler.rfile.read(1)), OK, timeout=0.1) as asked:
        assert asked.ask().text == "hello"
    assert asked.notes == ["the server took too long; attempt 2 of 6 in 0 s"]


def test_nobody_there_is_one_message():
    with chat_server() as server:
        pass
    asked = Asked(server, FakeTime(), 1.0)
    assert "no answer in 6 attempts; the last: no connection: " in asked.refusal()
    assert len(asked.slept) == 5


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Answer(act=huge), "an answer of more than 1 MiB"),
        (Answer(completion("hello")[:-9]), "an answer that is not JSON (application/json, "),
        (Answer(PAGE, 200, HTML), "an answer that is not JSON (text/html; charset=utf-8, 70 bytes)"),
        (
            Answer(b"data: {}\n\n", 200, {"Content-Type": "text/event-stream"}),
            "an answer that is not JSON (text/event-str",
        ),
        (Answer(b"[" * 100_000), "an answer that is not JSON"),
        (Answer(b"\xff\xfe"), "an answer that is not JSON"),
        (Answer(b""), "an answer that is not JSON"),
        (Answer(b"[]"), "an answer without choices[0].message.content"),
        (Answer(b'{"choices": []}'), "an answer without choices[0].message.content"),
        (Answer(completion(None)), "an answer without choices[0].message.content"),
        (Answer(completion(" ")), "an answer without choices[0].message.content"),
        (Answer(completion(f"Your key is {KEY}.")), "an answer that holds the key"),
    ],
)
def test_answer_that_cannot_be_used_says_why(answer, fault):
    with asking(answer) as asked:
        reply = asked.ask()
    assert reply.text == ""
    assert reply.fault.startswith(fault)
    assert KEY not in reply.fault
    assert asked.slept == []


def test_content_type_does_not_matter_where_the_content_is_right():
    with asking(Answer(completion("hello"), 200, {"Content-Type": "text/plain"})) as asked:
        assert asked.ask().text == "hello"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(401, "bad"), "HTTP 401: bad; check the key"),
        (error(401, f"Incorrect API key: {KEY}"), "HTTP 401: Incorrect API key: [key]; check the key"),
        (error(404, "no model"), "HTTP 404: no model; check --endpoint and --model"),
        (error(400, "bad\n\x1b[31mrequest" + "!" * 500), "HTTP 400: bad \ufffd[31mrequest!"),
        (Answer(PAGE, 403, HTML), "HTTP 403, with an HTML page; check the key"),
        (Answer(f"{'x' * 190}{KEY}".encode(), 400), "HTTP 400: " + "x" * 190 + "[key]"),
        (Answer(b"", 400), "HTTP 400"),
        (Answer(b"", 304), "HTTP 304"),
    ],
)
def test_refusal_is_final_and_one_line(answer, said):
    with asking(answer) as asked:
        message = asked.refusal()
    assert message.startswith(f"{asked.server.url}/chat/completions: {said}")
    assert message.isprintable()
    assert len(message) < 350
    assert len(asked.server.requests) == 1


def test_refusal_without_a_key_says_so():
    with chat_server([error(401)]) as server:
        client = ChatClient(ChatEndpoint(f"{server.url}/chat/completions", "m"), print)
        with client, pytest.raises(EndpointError, match="slow down; no key was sent: set the variable that holds it"):
            client.ask("Tell.")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(status):
    with chat_server() as other, asking(Answer(b"", status, {"Location": f"{other.url}/{KEY}"})) as asked:
        message = asked.refusal()
        host = other.url.split("/")[2]
        assert f"HTTP {status}, a redirect to {host}, which is not followed" in message
        assert other.requests == []
        assert len(asked.server.requests) == 1


@pytest.mark.parametrize(
    ("location", "told"), [("http://[", "what is no address"), ("/v1/chat/completions", "the same host")]
)
def test_redirect_without_a_host_is_one_message(location, told):
    with asking(Answer(b"", 302, {"Location": location})) as asked:
        assert f"a redirect to {told}, which is not followed" in asked.refusal()


def test_key_is_not_logged(caplog):
    caplog.set_level(logging.DEBUG)
    with asking(error(500, KEY), Answer(completion(KEY)), error(401, KEY)) as asked:
        asked.ask()
        asked.refusal()
    assert any(record.name.startswith("httpcore") for record in caplog.records)
    assert KEY not in caplog.text
