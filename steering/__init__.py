"""Construct steering vectors for language models and measure whether they work.

What is named here is imported when it is first used: some of it takes seconds, which a command need not wait for that
does not use it. The names are in `__init__.pyi`.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
