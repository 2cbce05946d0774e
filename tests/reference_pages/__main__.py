"""Write the reference."""

from tests.reference_pages.pages import DIRECTORY, write

write(DIRECTORY)
