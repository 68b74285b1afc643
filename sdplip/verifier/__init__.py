"""The sceptic's side: prove every claim of a certificate file again from the weight file alone. NumPy only."""

from sdplip.verifier.verify import Checked, Verification, verify

__all__ = ["Checked", "Verification", "verify"]
