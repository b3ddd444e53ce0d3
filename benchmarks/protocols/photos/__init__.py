"""What is said of photos, from detection on."""
