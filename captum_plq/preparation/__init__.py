"""From sources of images to aligned faces, in worker processes; nothing holds a run up."""

from captum_plq.preparation.entries import Entries, Entry, SourceGoneError, read_entry
from captum_plq.preparation.listing import list_entries, list_photos
from captum_plq.preparation.loader import (
    Waited,
    Workers,
    chunks_of,
    chunks_one_by_one,
    require_preparing,
)
from captum_plq.preparation.prepare import (
    REASONS,
    Chunk,
    Preparation,
    Status,
    prepare_chunk,
    source_state,
)

__all__ = [
    "REASONS",
    "Chunk",
    "Entries",
    "Entry",
    "Preparation",
    "SourceGoneError",
    "Status",
    "Waited",
    "Workers",
    "chunks_of",
    "chunks_one_by_one",
    "list_entries",
    "list_photos",
    "prepare_chunk",
    "read_entry",
    "require_preparing",
    "source_state",
]
