"""The command line ``captum-plq``, one file per command."""

from captum_plq.cli.entry import main

__all__ = [
    "main",
]
