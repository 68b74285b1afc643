"""Every exception of sdplip. Each message says what is wrong, the value, and what to do."""


class SdplipError(Exception):
    """Base of all errors that sdplip raises on purpose; the command line exits with 2 on it."""


class InvalidWeight(SdplipError, ValueError):
    """The weight is not a finite real matrix or convolution kernel of the needed shape."""


class Misfit(InvalidWeight):
    """Shapes in a graph contradict each other: it does not run on inputs of this shape, perhaps on a batch of another size."""


class InvalidScaling(SdplipError, ValueError):
    """The scaling `t` (or the SLL weights `q`) has a wrong length, or is not positive and finite."""


class UnsupportedConvolution(SdplipError, ValueError):
    """No theorem covers this convolution (reflect or replicate padding, for example)."""


class NotProvable(SdplipError, ArithmeticError):
    """The statement may hold, but double precision arithmetic cannot prove it."""


class UnreadableFile(SdplipError, ValueError):
    """A file is missing, truncated, mislabelled, or would have to be unpickled."""


class UnknownLayer(SdplipError, KeyError):
    """The file holds no layer of that name."""

    def __str__(self) -> str:  # KeyError would print the repr
        return str(self.args[0])


class InvalidCertificate(SdplipError, ValueError):
    """A certificate file is malformed, or of a schema that this version does not know."""


class MissingDependency(SdplipError, ImportError):
    """An optional package is needed for this request."""


class SolverUnavailable(SdplipError, RuntimeError):
    """The requested solver is not installed, or refuses a problem of this size."""


class InvalidProblem(SdplipError, ValueError):
    """The data of an optimisation problem contradict each other or leave their domain."""


class RefusedModule(SdplipError, ValueError):
    """No Lipschitz bound holds for this torch module as it stands, or none that sdplip can prove."""


class RefusedArithmetic(SdplipError, RuntimeError):
    """The process or its device multiplies in an arithmetic whose rounding sdplip does not bound."""


class UnknownModule(RefusedModule):
    """No rule is registered for this torch module; `sdplip.nn.bound.lipschitz.register` adds one."""


class InvalidData(SdplipError, ValueError):
    """A data set is missing, incomplete, or not images in bytes with one label each."""


class InvalidConfig(SdplipError, ValueError):
    """A run file, a preset name or an override has an unknown key, a wrong type, or a value outside its range."""


class InvalidRun(SdplipError, ValueError):
    """A run folder belongs to another configuration, or one of its files is missing, truncated or of another version."""


class Diverged(SdplipError, ArithmeticError):
    """Training reached a number that is not finite; `sdplip train` exits with 3 on it."""


class ProcessLost(SdplipError, RuntimeError):
    """Another process of the same run has ended or cannot be reached, so that this one cannot go on."""


class NoEquilibrium(SdplipError, ArithmeticError):
    """The fixed point of an equilibrium layer was not reached within its tolerance: the layer abstains."""


class OutOfResources(SdplipError, RuntimeError):
    """The disk is full or the memory of the device is spent."""
