"""Reading published weight files and fitting them to an architecture."""
