"""One protocol a file: what is measured, and what its table shows."""
