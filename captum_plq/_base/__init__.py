"""Small helpers that every other package may use: argument checks, files, devices, tracing."""
