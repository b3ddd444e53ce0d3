"""Face networks in ONNX files."""
