"""Measurements of captum_plq against what a user would pick instead.

A method (``methods``) explains a network (``models``) under a protocol (``speed``), which
writes one JSON per run; ``report`` and ``figure`` turn all of them into a table, a CSV and
a figure. Nothing here is part of the installed package.
"""
