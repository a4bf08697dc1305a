"""Offline HTML pages: the document, its elements and its style, shared by all rooms.

A page is one file that loads nothing. Words are escaped here; text that is HTML already is `Html`.
"""

from metro_fast._page.document import Section, document
from metro_fast._page.elements import Html, figure, scrolling, table
from metro_fast._page.sizes import file_size

__all__ = ["Html", "Section", "document", "figure", "file_size", "scrolling", "table"]
