"""The last spatial map on the way to an embedding, and what follows it."""
