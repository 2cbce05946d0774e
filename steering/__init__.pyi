from .activations import ContrastActivations, FeatureReader, capture_pairs
from .concept_files import load_concept
from .concepts import Concept, ContrastPair
from .errors import SteeringError
from .journal import Journal, load_rows
from .keywords import Keywords
from .methods import construct
from .models.completions import complete
from .models.language_model import LanguageModel
from .models.sampling import Greedy, NucleusSampler
from .models.tokens import tokenize_prompt
from .neutral import NeutralSet, load_neutral
from .profile_files import load_profile
from .profiles import Profile
from .results import Row
from .sae.autoencoder import SparseAutoencoder
from .sae.library import SaeLibrary, open_library
from .settings import Setting
from .sweeps.cells import Cell, Outcome
from .sweeps.sweep import Sweep
from .vectors import Intervention, SteeringVector, load_vector

__all__ = [
    "Cell",
    "Concept",
    "ContrastActivations",
    "ContrastPair",
    "FeatureReader",
    "Greedy",
    "Intervention",
    "Journal",
    "Keywords",
    "LanguageModel",
    "NeutralSet",
    "NucleusSampler",
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
    "complete",
    "construct",
    "load_concept",
    "load_neutral",
    "load_profile",
    "load_rows",
    "load_vector",
    "open_library",
    "tokenize_prompt",
]
__version__: str
