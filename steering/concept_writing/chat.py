"""Asking a chat model over HTTP, patiently: what may pass is tried again, a bounded number of times."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from steering.concept_writing.endpoints import ChatEndpoint
from steering.errors import EndpointError
from steering.tables.wording import visible

#: Of sampling, as the paper has them.
TEMPERATURE, TOP_P = 0.7, 1.0

_ATTEMPTS = 6
_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_WAIT_ASKED_FOR = 1.0, 60.0, 120.0
# A server that sends a byte now and then never runs into the time-out of a single read.
_LONGEST_ANSWER_SECONDS = 600.0
_LARGEST_ANSWER = 1 << 20
_SHOWN = 200


@dataclass(frozen=True)
class Clock:
    """Time and chance, which tests replace.

    Attributes:
        now: Seconds since 1970.
        sleep: Waits for some seconds.
        uniform: Draws from [0, 1), for jitter.
    """

    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    uniform: Callable[[], float] = field(default_factory=lambda: random.Random().random)  # noqa: S311 - no secret


@dataclass(frozen=True)
class Reply:
    """What a server answered.

    Attributes:
        text: What the model wrote; empty where there is a fault.
        fault: Why the answer cannot be used, in words; empty where it can.
    """

    text: str = ""
    fault: str = ""


class _PassingError(Exception):
    """What may not happen again.

    Args:
        reason: In words.
        wait: Seconds to wait at least, where the server asked for them.
    """

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class ChatClient:
    """Posts prompts to an endpoint, one at a time.

    Redirects are not followed, and a proxy that the environment names is used only where it cannot read the key: the
    key goes to the host that the user named and to no other.

    Args:
        endpoint: Where to ask.
        note: Told, in a line, of what went wrong and is tried again.
        timeout: Seconds without a byte after which an attempt is given up.
        clock: Time and chance.

    Raises:
        EndpointError: The environment names a proxy or certificates that cannot be used.
    """

    def __init__(
        self, endpoint: ChatEndpoint, note: Callable[[str], None], timeout: float = 120.0, clock: Clock | None = None
    ) -> None:
        self._endpoint = endpoint
        self._note = note
        self._clock = clock or Clock()
        headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "steering-bench"}
        if endpoint.key:
            headers["Authorization"] = f"Bearer {endpoint.key}"
        # An unencrypted request is a proxy's to read.
        by_proxy = not (endpoint.key and endpoint.url.startswith("http:"))
        try:
            self._client = httpx.Client(headers=headers, timeout=timeout, follow_redirects=False, trust_env=by_proxy)
        except (ImportError, OSError, ValueError, httpx.InvalidURL) as error:
            message = f"the environment's proxy or certificates cannot be used: {self._shown(str(error))}"
            raise EndpointError(f"{endpoint.url}: {message}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def ask(self, prompt: str) -> Reply:
        """Ask for one completion of a chat with a single message.

        Raises:
            EndpointError: The server refuses, redirects, or did not answer in any of six attempts. Neither the message
                nor what it was raised from holds the key.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._attempt(prompt)
            except _PassingError as error:
                reason, asked = str(error), error.wait
            if attempt < _ATTEMPTS:
                backoff = min(_LONGEST_WAIT, _FIRST_WAIT * 2 ** (attempt - 1)) * (1 + self._clock.uniform()) / 2
                seconds = max(backoff, min(asked, _LONGEST_WAIT_ASKED_FOR))
                self._note(f"{reason}; attempt {attempt + 1} of {_ATTEMPTS} in {seconds:.0f} s")
                self._clock.sleep(seconds)
        raise EndpointError(f"{self._endpoint.url}: no answer in {_ATTEMPTS} attempts; the last: {reason}")

    def _attempt(self, prompt: str) -> Reply:
        body = {
            "model": self._endpoint.model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": TEMPERATURE,
            "top_p": TOP_P,
        }
        try:
            with self._client.stream("POST", self._endpoint.url, json=body) as response:
                content = self._read(response)
        except httpx.TimeoutException:
            raise _PassingError("the server took too long") from None
        except httpx.TransportError as error:
            raise _PassingError(f"no connection: {self._shown(str(error) or type(error).__name__)}") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:  # the last of a host's name
            raise EndpointError(f"{self._endpoint.url}: {self._shown(str(error))}") from None
        if response.is_success:
            return Reply(fault="an answer of more than 1 MiB") if content is None else self._reply(response, content)
        raise self._refusal(response, content or b"")

    def _read(self, response: httpx.Response) -> bytes | None:
        """The body, or None where it is too large; a redirect's is not read.

        Raises:
            EndpointError: An answer is compressed, though that was not asked for: a few bytes could then fill the
                memory.
        """
        content = bytearray()
        if response.has_redirect_location:
            return bytes(content)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity"}:
            if not response.is_success:
                return b""  # the status says enough
            refused = f"the answer is compressed ({self._shown(encoding)}), which was not asked for"
            raise EndpointError(f"{self._endpoint.url}: {refused}")
        started = self._clock.now()
        for chunk in response.iter_raw():
            content += chunk
            if len(content) > _LARGEST_ANSWER:
                return None
            if self._clock.now() - started > _LONGEST_ANSWER_SECONDS:
                raise _PassingError("the server took too long")
        return bytes(content)

    def _refusal(self, response: httpx.Response, content: bytes) -> Exception:
        """What a status other than success means."""
        url, status = self._endpoint.url, response.status_code
        if response.has_redirect_location:
            target = self._shown(_host(response.headers["location"])) or "the same host"
            return EndpointError(
                f"{url}: HTTP {status}, a redirect to {target}, which is not followed; "
                "if that is where to ask, give its address with --endpoint"
            )
        said = f"HTTP {status}{self._said(response, content)}"
        if status in {408, 429} or status >= 500:
            return _PassingError(said, self._asked_wait(response.headers.get("retry-after", "")))
        hint = ""
        if status in {401, 403}:
            hint = "; check the key" if self._endpoint.key else "; no key was sent: set the variable that holds it"
        if status == 404:
            hint = "; check --endpoint and --model"
        return EndpointError(f"{url}: {said}{hint}")

    def _said(self, response: httpx.Response, content: bytes) -> str:
        """The server's own message after a colon, or nothing where it sent a page for browsers."""
        if b"<html" in content[:1000].lower() or "html" in response.headers.get("content-type", ""):
            return ", with an HTML page"
        text = content.decode("utf-8", errors="replace")
        try:
            parsed = json.loads(text)
            text = str(parsed["error"]["message"])
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        return f": {self._shown(text)}" if text.strip() else ""

    def _asked_wait(self, value: str) -> float:
        """Seconds that a Retry-After header asks for, by their number or by a date; 0 where it makes no sense."""
        if value.strip().isascii() and value.strip().isdigit():
            return float(value.strip()[:9])
        try:
            date = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return 0.0
        if date.tzinfo is None:  # dates of HTTP are in UTC, also where one does not say so
            date = date.replace(tzinfo=UTC)
        return date.timestamp() - self._clock.now()

    def _reply(self, response: httpx.Response, content: bytes) -> Reply:
        try:
            parsed: Any = json.loads(content)
        except (ValueError, RecursionError):
            kind = self._shown(response.headers.get("content-type", "")) or "an unknown type"
            return Reply(fault=f"an answer that is not JSON ({kind}, {len(content)} bytes)")
        try:
            text = parsed["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            text = None
        if not isinstance(text, str) or not text.strip():
            return Reply(fault="an answer without choices[0].message.content")
        if self._endpoint.redacted(text) != text:
            return Reply(fault="an answer that holds the key")
        return Reply(text)

    def _shown(self, text: str) -> str:
        """The beginning of another's text, on one line, without the key or what a terminal would obey."""
        return visible(" ".join(self._endpoint.redacted(text).split()))[:_SHOWN]


def _host(location: str) -> str:
    """Where a redirect leads; empty where that is the same host."""
    try:
        return urlsplit(location).netloc
    except ValueError:
        return "what is no address"
