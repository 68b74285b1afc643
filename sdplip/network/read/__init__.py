"""Readers: torch modules, ONNX files, weight files and network files become the one graph."""
