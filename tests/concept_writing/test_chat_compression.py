"""Answers that are compressed, though that was not asked for: a few bytes of them could fill the memory."""

from __future__ import annotations

import gzip

import pytest

from steering.errors import EndpointError
from tests.chat_servers import Answer, completion
from tests.concept_writing.test_chat import OK, asking


def test_compressed_answer_is_refused_before_it_fills_the_memory():
    body = gzip.compress(gzip.compress(bytes(1 << 24)))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip, gzip"}
    told = r"the answer is compressed \(gzip, gzip\), which was not asked for$"
    with asking(Answer(body, 200, headers)) as asked, pytest.raises(EndpointError, match=told):
        asked.ask()
    assert asked.server.requests[0][1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("encoding", ["", "Identity", "identity"])
def test_answer_that_is_said_not_to_be_compressed_is_read(encoding):
    headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
    with asking(Answer(completion("hello"), 200, headers)) as asked:
        assert asked.ask().text == "hello"


def test_compressed_refusal_is_told_by_its_status_and_what_passes_is_tried_again():
    gone, busy = (Answer(gzip.compress(b"no"), status, {"Content-Encoding": "gzip"}) for status in (401, 503))
    with asking(busy, OK) as asked:
        assert asked.ask().text == "hello"
    with asking(gone) as asked, pytest.raises(EndpointError, match="HTTP 401; check the key"):
        asked.ask()
