"""The trusted kernel: everything here proves, nothing here proposes. NumPy only; `docs/rounding.md` derives every constant."""

from sdplip.certificates.certificate import Certificate, Form, Verdict
from sdplip.certificates.dense import certify, holds, lower_bound

__all__ = ["Certificate", "Form", "Verdict", "certify", "holds", "lower_bound"]
