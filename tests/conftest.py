"""Fixtures that several test modules share."""

from __future__ import annotations

import errno
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import settings

from steering import activation_cache
from steering.cli import main
from steering.concept_files import load_concept
from steering.models.language_model import LanguageModel
from steering.neutral import load_neutral
from steering.settings import Setting
from tests.documents import ROOT
from tests.small_models import ARCHITECTURES, small_model, small_module, small_tokenizer

pytest_plugins = ["pytester"]

# bench is no part of the package. At the end of the path the checkout hides nothing that is installed.
sys.path.append(str(ROOT))

settings.register_profile("steering", deadline=None, max_examples=50, derandomize=True)
settings.load_profile("steering")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[object]) -> None:
    """Give each of several processes one thread: threads that wait for each other are slow beside other work."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _own_activations(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests away from the activations of the user, and of each other."""
    root = tmp_path_factory.getbasetemp() / f"cache-{uuid4().hex}"
    monkeypatch.setattr(activation_cache, "cache_directory", lambda: root)


@pytest.fixture(autouse=True)
def _same_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables are as wide as a terminal: the tests' do not depend on whose."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def without_collection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect no garbage: statsmodels does so at each adjustment, 0.2 s with all that tests have loaded."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


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


@pytest.fixture
def setting(request: pytest.FixtureRequest, concept_directory: Path, neutral_file: Path) -> Setting:
    """The PROFILE of the test's module with the small concept and the short documents."""
    return Setting(request.module.PROFILE, load_concept(str(concept_directory)), load_neutral(str(neutral_file), 4))


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model on disk."""
    directory = tmp_path_factory.mktemp("models") / "small"
    small_module("llama").save_pretrained(directory)
    small_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture
def profile_file(tmp_path: Path) -> Path:
    """A profile of two methods that claims mean_difference of another model than the small one."""
    path = tmp_path / "mine.toml"
    path.write_text(
        'description = "A test."\nmodel = "embedded"\nconcept = "gender"\nneutral = "embedded"\n'
        "[methods.mean_difference]\nmultiplier = 12\nclaimed_layers = [1]\n"
        "[methods.random_direction]\nmultiplier = 12\n",
        encoding="utf-8",
    )
    return path


@pytest.fixture
def arguments(
    profile_file: Path, model_directory: Path, concept_directory: Path, neutral_file: Path, tmp_path: Path
) -> list[str]:
    """Options of `pytest bench` for a quick run on the user's own material."""
    options = {
        "profile": profile_file,
        "model": model_directory,
        "concept": concept_directory,
        "neutral": neutral_file,
        "results": tmp_path / "results",
        "rollouts": 8,
        "dtype": "float32",
        "device": "cpu",
    }
    return [f"--{name}={value}" for name, value in options.items()]


@pytest.fixture
def bench(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pytest.RunResult]:
    """Run `pytest bench` inside this process."""
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # pytest-benchmark measures nothing in a worker

    def run(*options: str) -> pytest.RunResult:
        place = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), str(ROOT / "bench"))
        return pytester.runpytest_inprocess(*place, "-p", "no:cacheprovider", *options)

    return run


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Call the `steering` command; return exit status, standard output and standard error."""

    def invoke(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["steering", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return invoke


@pytest.fixture
def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and what is written from then on does not reach the disk."""

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, "fsync", full)
