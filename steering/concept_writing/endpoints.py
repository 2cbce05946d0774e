"""Where a chat model answers, and the key that opens it, which must not be shown anywhere."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urlsplit

from steering.errors import DataError

#: The variable of the environment that holds the key where no other is named.
KEY_VARIABLE = "OPENAI_API_KEY"
#: Stands where a text held the key.
REDACTED = "[key]"

_PATH = "/chat/completions"


@dataclass(frozen=True)
class ChatEndpoint:
    """A model behind an address.

    Attributes:
        url: Where requests are posted.
        model: The model's name at that address.
        key: Empty where none is needed.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)

    def redacted(self, text: str) -> str:
        """A text without the key, in the spellings that a server may echo it in."""
        if self.key:
            for spelling in (self.key, json.dumps(self.key)[1:-1], quote(self.key, safe="")):
                text = text.replace(spelling, REDACTED)
        return text


def chat_endpoint(address: str, model: str, environment: Mapping[str, str], key_variable: str) -> ChatEndpoint:
    """Say where to ask, with the key that the environment holds.

    Args:
        address: Of an OpenAI-compatible server, such as "http://localhost:8080/v1"; without a path, "/v1" is meant.
        model: Name of the model there.
        environment: Variable -> value.
        key_variable: Which of them holds the key. The default may be absent, for servers that need none.

    Raises:
        DataError: The address or the key cannot be used, or the key would travel unencrypted to another machine. The
            message does not hold the key.
    """
    parts = _parts(address)
    if not model.strip():
        raise DataError("--model is empty; give the name of a model at the endpoint")
    key = environment.get(key_variable, "").strip()
    if not key and key_variable != KEY_VARIABLE:
        raise DataError(f"--key-variable {key_variable!r}: the environment has no such variable, or it is empty")
    if not all("!" <= character <= "~" for character in key):
        raise DataError(f"the key in {key_variable} holds a space or a character that no HTTP header may hold")
    if key and parts.scheme == "http" and not _is_this_machine(parts.hostname or ""):
        raise DataError(
            f"the key in {key_variable} would travel unencrypted to {parts.hostname}; "
            f"give an https address, or start with {key_variable} unset if the server needs no key"
        )
    path = parts.path.rstrip("/") or "/v1"
    return ChatEndpoint(parts._replace(path=path.removesuffix(_PATH) + _PATH).geturl(), model, key)


def _parts(address: str) -> SplitResult:
    """The parts of an address; it is not quoted where it may hold a password."""
    if set("@?#") & set(address):
        raise DataError(
            "--endpoint must hold neither a user's name nor a password nor what follows '?' or '#': "
            "other users of this machine can read command lines; keys come from the environment (--key-variable)"
        )
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - raises where it is no number
    except ValueError:
        raise DataError("--endpoint is not an address; give one such as https://api.openai.com/v1") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise DataError(f"--endpoint {address!r}: give an address such as https://api.openai.com/v1")
    return parts


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
