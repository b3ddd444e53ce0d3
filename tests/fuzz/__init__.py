"""A seeded fuzzer of everything that takes what others made: files, tensors, networks."""
