"""A profile with the data that it names."""

from __future__ import annotations

from dataclasses import dataclass

from steering.concept_files import load_concept
from steering.concepts import DEVELOPMENT, Concept
from steering.errors import DataError
from steering.hashing import json_hash
from steering.neutral import NeutralSet, load_neutral
from steering.profiles import Profile


@dataclass(frozen=True)
class Setting:
    """A profile with the data that it names, loaded.

    Attributes:
        profile: What to run.
        concept: Of the profile's split.
        neutral: Documents of the profile's split.
        development: Documents that doses are looked for on, where the profile has a budget.
    """

    profile: Profile
    concept: Concept
    neutral: NeutralSet
    development: NeutralSet | None = None

    def __post_init__(self) -> None:
        """Refuse a budget without the documents that it is for, and a single document or pair: it gives no interval."""
        for documents in (self.neutral, self.development):
            if documents is not None and len(documents.documents) == 1:
                raise DataError(f"neutral set {documents.name!r}: one document is left; at least 2 are needed")
        if len(self.concept.test) == 1:
            raise DataError(f"concept {self.concept.name!r} has one test pair; at least 2 are needed")
        if self.profile.neutral_budget is not None and self.development is None:
            raise DataError(f"profile {self.profile.name!r}: a neutral_budget needs development documents")

    @classmethod
    def load(cls, profile: Profile) -> Setting:
        """Load concept and neutral documents.

        Raises:
            UnknownNameError: One of them does not exist.
            DataError: One of them is malformed.
        """
        concept = load_concept(profile.concept, profile.toward)
        if profile.split == DEVELOPMENT:
            development = _development_documents(profile)
            return cls(profile, concept.development(), development, development)
        neutral = load_neutral(profile.neutral, profile.neutral_documents)
        return cls(
            profile, concept, neutral, None if profile.neutral_budget is None else _development_documents(profile)
        )

    def load_training_documents(self) -> NeutralSet:
        """Load neutral documents for methods that learn from some: those of the development split.

        Raises:
            DataError: Something else is done on these documents, or the neutral set holds none beyond the test split's.
        """
        profile = self.profile
        if self.development is not None:
            use, what = "doses of a budget are chosen", "budget"
            if profile.split == DEVELOPMENT:
                use, what = "the run measures", "split"
            raise DataError(
                f"profile {profile.name!r}: a method that learns from the development documents cannot be measured "
                f"where {use} on the same documents; leave out the method, or the {what}"
            )
        return _development_documents(profile)

    @property
    def data_hash(self) -> str:
        """SHA-256 of the texts that values are measured on, and of those that vectors are constructed from."""
        return json_hash([self.concept.hash, self.neutral.hash])


def _development_documents(profile: Profile) -> NeutralSet:
    """The documents after those of the test split."""
    return load_neutral(profile.neutral, profile.development_documents, skip=profile.neutral_documents)
