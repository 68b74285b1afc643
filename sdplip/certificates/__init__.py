"""The trusted kernel: everything here proves, nothing here proposes. NumPy only; `docs/rounding.md` derives every constant."""

from sdplip.certificates.certificate import Certificate, Form, Verdict
from sdplip.certificates.convolution import certify_convolution, convolution_holds, convolution_lower_bound
from sdplip.certificates.dense import certify, holds, lower_bound
from sdplip.certificates.optimum import (
    convolution_trace_lower_bound,
    log_det_lower_bound,
    nearest_lower_bound,
    trace_lower_bound,
)
from sdplip.certificates.residual import (
    ResidualCertificate,
    certify_residual,
    residual_holds,
    residual_lower_bound,
)

__all__ = [
    "Certificate",
    "Form",
    "ResidualCertificate",
    "Verdict",
    "certify",
    "certify_convolution",
    "certify_residual",
    "convolution_holds",
    "convolution_lower_bound",
    "convolution_trace_lower_bound",
    "holds",
    "log_det_lower_bound",
    "lower_bound",
    "nearest_lower_bound",
    "residual_holds",
    "residual_lower_bound",
    "trace_lower_bound",
]
