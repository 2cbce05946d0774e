"""Construct steering vectors for language models and measure whether they work."""

from steering.activations import ContrastActivations, FeatureReader, capture_pairs
from steering.concepts import Concept, ContrastPair, Keywords, load_concept
from steering.errors import SteeringError
from steering.methods import construct
from steering.models.language_model import LanguageModel
from steering.neutral import NeutralSet, load_neutral
from steering.profile_files import load_profile
from steering.profiles import Profile, Setting
from steering.results import Journal, Row, load_rows
from steering.sae.autoencoder import SparseAutoencoder
from steering.sae.library import SaeLibrary, open_library
from steering.sweeps.cells import Cell, Outcome
from steering.sweeps.sweep import Sweep
from steering.vectors import Intervention, SteeringVector, load_vector

__version__ = "0.1.0"

__all__ = [
    "Cell",
    "Concept",
    "ContrastActivations",
    "ContrastPair",
    "FeatureReader",
    "Intervention",
    "Journal",
    "Keywords",
    "LanguageModel",
    "NeutralSet",
    "Outcome",
    "Profile",
    "Row",
    "SaeLibrary",
    "Setting",
    "SparseAutoencoder",
    "SteeringError",
    "SteeringVector",
    "Sweep",
    "capture_pairs",
    "construct",
    "load_concept",
    "load_neutral",
    "load_profile",
    "load_rows",
    "load_vector",
    "open_library",
]
