"""A release of SAEs whose files lie on disk in place of the model hub."""

from __future__ import annotations

import pytest


@pytest.fixture
def release(monkeypatch, tmp_path):
    """Enter a release into SAELens's list; its ids are hook names, its files those under `tmp_path / "hub"`."""
    from huggingface_hub.errors import EntryNotFoundError
    from sae_lens.loading import pretrained_sae_loaders
    from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup, get_pretrained_saes_directory

    def download(repo_id: str, filename: str, force_download: bool) -> str:
        path = tmp_path / "hub" / filename
        if not path.is_file():
            raise EntryNotFoundError(f"{repo_id} has no {filename}")
        return str(path)

    def enter(*ids: str, conversion: str | None = None, overrides: dict | None = None) -> str:
        paths = {sae_id: sae_id for sae_id in ids}
        lookup = PretrainedSAELookup(
            "small-release", "some/where", "small", conversion, paths, {}, {}, dict.fromkeys(ids, ""), {}, overrides
        )
        monkeypatch.setitem(get_pretrained_saes_directory(), "small-release", lookup)
        return "small-release"

    monkeypatch.setattr(pretrained_sae_loaders, "hf_hub_download", download)
    return enter
