"""Occlude and degrade aligned faces, in places and by amounts that are known."""
