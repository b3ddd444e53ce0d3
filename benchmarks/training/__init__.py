"""Training the face network that this package ships."""
