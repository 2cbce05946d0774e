"""Fixtures that several test modules share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import settings

from steering.model import LanguageModel
from tests.small_models import ARCHITECTURES, small_model

pytest_plugins = ["pytester"]

settings.register_profile("steering", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("steering")


@pytest.fixture(scope="session", params=ARCHITECTURES)
def any_model(request: pytest.FixtureRequest) -> LanguageModel:
    """A two-block model of each of four architectures."""
    return small_model(request.param)


@pytest.fixture(scope="session")
def llama() -> LanguageModel:
    """One small model, for tests to which the architecture does not matter."""
    return small_model("llama")


@pytest.fixture
def concept_directory(tmp_path: Path) -> Path:
    """A small valid concept of 6 + 3 pairs."""
    directory = tmp_path / "concept"
    directory.mkdir()
    (directory / "concept.toml").write_text(
        'name = "royalty"\n'
        'description = "Kings against queens."\n'
        'licence = "MIT"\n'
        'source = "Written for a test."\n'
        'rollout_prompts = ["Once there was", "Long ago lived"]\n'
        'one_word_prompts = ["the old", "the young"]\n'
        "[keywords]\n"
        'positive = ["king", "man"]\n'
        'negative = ["queen", "woman"]\n',
        encoding="utf-8",
    )
    for split, numbers in (("generation", range(6)), ("test", range(6, 9))):
        lines = [
            json.dumps(
                {
                    "id": f"pair-{number}",
                    "prompt": f"Story {number} of a ruler in land {number}.",
                    "positive": f"Then the king rode {number} miles.",
                    "negative": f"Then the queen sailed {number} seas.",
                }
            )
            for number in numbers
        ]
        (directory / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return directory


@pytest.fixture
def neutral_file(tmp_path: Path) -> Path:
    """Four short neutral documents."""
    path = tmp_path / "neutral.jsonl"
    texts = [
        "Rain fell on the hills all day.",
        "Mix flour and water, then wait.",
        "The bus leaves at nine.",
        "It is late.",
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return path
