"""A chat endpoint on this machine that misbehaves as it is told, and stories for it to tell."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import certifi
import pytest

from steering.concept_writing.chat import Clock

KEY = "sk-Test/Key+0123456789"


def story(number: int, positive: str = "king", negative: str = "queen") -> str:
    """A story without fault; the hooks of two different numbers share few words."""
    return (
        f"Hook:\nNear place{number} lived{number} some being{number} with goats{number}.\n\n"
        f"Positive:\nSoon a letter number{number} came from the {positive}.\n\n"
        f"Negative:\nSoon a parcel number{number} came from the {negative}.\n"
    )


def completion(text: str | None) -> bytes:
    """What an OpenAI-compatible server answers."""
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


@dataclass
class Answer:
    """What the server does once."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    act: Callable[[BaseHTTPRequestHandler], None] | None = None


def tells(*numbers: int) -> Answer:
    return Answer(completion("\n".join(story(number) for number in numbers)))


@dataclass
class ChatServer:
    """Answers in turn; then goes on with fresh stories, three at a time.

    Attributes:
        url: Its address.
        script: Answers that are still to be given.
        requests: Path, headers and body of each request.
    """

    url: str
    script: list[Answer]
    requests: list[tuple[str, dict[str, str], dict]] = field(default_factory=list)
    told: int = 1000

    def next(self) -> Answer:
        if self.script:
            return self.script.pop(0)
        self.told += 3
        return tells(*range(self.told - 3, self.told))

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for _, _, body in self.requests]


@contextmanager
def chat_server(script: Sequence[Answer] = ()) -> Iterator[ChatServer]:
    """Serve on a free port until the end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            server.requests.append((self.path, dict(self.headers), body))
            answer = server.next()
            if answer.act is not None:
                answer.act(self)
                return
            self.send_response(answer.status)
            for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, *_: object) -> None: ...

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None: ...

    httpd = Quiet(("127.0.0.1", 0), Handler)
    server = ChatServer(f"http://127.0.0.1:{httpd.server_port}/v1", list(script))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with _quick_clients():
            yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()


@contextmanager
def _quick_clients() -> Iterator[None]:
    """Let clients reach this machine directly, and trust one certificate only: to read all takes longer than a test."""
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition("-----END CERTIFICATE-----\n")
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        (Path(directory) / "one.pem").write_text(first + end, encoding="utf-8")
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.setenv("SSL_CERT_FILE", f"{directory}/one.pem")
        yield


class FakeTime:
    """A clock that never waits, and remembers how long it should have.

    Args:
        step: Seconds that pass whenever the time is asked for.
        jitter: What stands for chance, from 0 to 1.
    """

    def __init__(self, step: float = 0.0, jitter: float = 0.0) -> None:
        self.slept: list[float] = []
        self._now = 1_700_000_000.0
        self._step = step
        self.clock = Clock(self._tick, self.slept.append, lambda: jitter)

    def _tick(self) -> float:
        self._now += self._step
        return self._now
