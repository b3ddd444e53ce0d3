"""The command line ``captum-plq``, one file per command."""

from captum_plq.cli.app import main

__all__ = [
    "main",
]
