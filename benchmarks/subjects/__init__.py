"""The networks, the faces and the maps that are compared."""
