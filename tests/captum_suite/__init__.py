"""Captum's own test files, run against this package from a checkout of Captum's repository."""
