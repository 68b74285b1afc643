"""The sceptic's side: prove every claim of a certificate file again from the weight file alone. NumPy only."""
