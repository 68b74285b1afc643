"""Why a torch device cannot be used, in words that are the same wherever a device is named."""

KINDS = ("cpu", "cuda")
"""What is offered; others that torch knows work where they hold double precision."""


def why_not(name: str) -> str:
    """The reason, for a device that has just failed; loads torch."""
    import torch

    kind, _, number = name.partition(":")
    if kind == "cuda" and (not number or number.isdecimal()):
        count = torch.cuda.device_count()
        return f"torch sees {count or 'no'} CUDA device{'s' * (count != 1)} here"
    if kind in ("mps", "meta"):
        return "it cannot hold float64"
    return f"the devices are {', '.join(KINDS)} and cuda:N"
