"""Certified radii and accuracy of trained networks, attacks, curves as data."""
