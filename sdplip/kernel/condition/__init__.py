r"""What is proven of one layer: $W^\top W \preceq c^2 T$ with a diagonal T, dense and by convolutions, and residual layers.

`dense` and `convolution` (by `symbol`, `spectrum`, `cells`; `image` for lower bounds of one size) prove a given c, `residual` the LMI
with given multipliers, `optimum` what no scaling can undercut. `sdplip.proposals` searches.
"""

from sdplip.kernel.condition.certificate import Certificate, Form, Verdict
from sdplip.kernel.condition.convolution import convolution_holds, convolution_lower_bound
from sdplip.kernel.condition.dense import holds, lower_bound
from sdplip.kernel.condition.optimum import (
    convolution_trace_lower_bound,
    log_det_lower_bound,
    nearest_lower_bound,
    trace_lower_bound,
)
from sdplip.kernel.condition.residual import ResidualCertificate, residual_holds, residual_lower_bound

__all__ = [
    "Certificate",
    "Form",
    "ResidualCertificate",
    "Verdict",
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
