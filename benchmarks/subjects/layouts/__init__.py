"""The layouts in which lists of pairs are published, one module a family."""
