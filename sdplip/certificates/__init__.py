"""What moves to `sdplip.kernel`, file by file. NumPy only."""
