"""Face networks, one architecture per file."""
