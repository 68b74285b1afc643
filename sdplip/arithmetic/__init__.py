"""Floating-point arithmetic with proven errors: what every proof is computed with. NumPy only; nothing here knows networks."""
