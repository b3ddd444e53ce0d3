"""Measurements of captum_plq against what a user would pick instead.

A protocol (``protocols``) measures networks, faces and methods (``subjects``) through the harness,
which writes one JSON per run; ``report`` turns all of them into pages and figures. Nothing here is
part of the installed package.
"""
