"""Every key that `--json` prints, said once: its type, what it means, and in which documents it stands.

A key has one meaning and one type in all commands: `bound` is a proven upper bound of a Lipschitz constant, a number, everywhere.
Every document has all of its keys; what is not known, not asked for or not finite is null. `schema(command)` is the JSON Schema.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sdplip.writing import JSON_SCHEMA as SCHEMA


@dataclass(frozen=True)
class Key:
    """A key whose value is a number, a text or a truth value; `null` says that it may be missing."""

    type: Literal["number", "integer", "string", "boolean"]
    text: str
    null: bool = False


@dataclass(frozen=True)
class Node:
    """A key whose value has parts.

    Attributes:
        how: "many" objects, "one" object with these parts, a "map" from texts to `parts[0]`, a "list" of `parts[0]`, or "any".
    """

    name: str
    how: Literal["many", "one", "map", "list", "any"]
    text: str
    parts: "Sequence[str | Node]" = ()
    null: bool = False


Parts = Sequence[str | Node]

KEYS: dict[str, Key] = {
    # every document
    "command": Key("string", "The command that answers."),
    "schema": Key("integer", "Version of these keys."),
    "error": Key("string", "What is wrong and what to do, in one sentence."),
    "error_kind": Key("string", "Name of the exception in `sdplip.errors`, or UsageError, Interrupted, OSError."),
    "exit_code": Key("integer", "With which the command ends."),
    # files
    "file": Key("string", "What was asked about: a file of weights or of a network, or the folder of a run."),
    "output": Key("string", "The file that was written."),
    "certificate": Key("string", "The certificate file; null where none was written.", null=True),
    "verify": Key("string", "The command that proves the certificate again; null without one.", null=True),
    "figure": Key("string", "The figure that was drawn.", null=True),
    "csv": Key("string", "The table of the curves that was written.", null=True),
    "samples": Key("string", "The table that was written, one row an image.", null=True),
    "network": Key("string", "The file of the network that a certificate is about."),
    "images": Key("string", "The file of the images that a certificate is about."),
    "shell": Key("string", "The shell whose completion it is."),
    "script": Key("string", "What that shell reads to complete commands and options."),
    "installed": Key("string", "The file that `--install` wrote; null where it was only printed.", null=True),
    "sha256": Key("string", "Digest of the file that a certificate is about."),
    # constants
    "bound": Key("number", "Proven upper bound of a Lipschitz constant; null where nothing is proven.", null=True),
    "lower": Key("number", "Largest stretch that was found, in floating point: not proven but by `bound --method exact`.", null=True),
    "lower_proven": Key("boolean", "Whether `lower` is proven, rounding included."),
    "sdp_lower": Key("number", "A solver's dual value, below which its method cannot come: not proven.", null=True),
    "gap": Key("number", "Relative distance to the best value of this kind; null where none is known.", null=True),
    "c": Key("number", "Proven from above: the least number with W^T W <= c^2 T is at most this."),
    "c_lower": Key("number", "Proven from below: it is at least this."),
    "expands": Key("number", "Proven: outputs are at least this times as far apart as inputs; null where it was not asked.", null=True),
    "margin_constant": Key("number", "Largest proven constant of a difference of two logits; null of a regression.", null=True),
    "rigorous": Key("boolean", "Always true: the kernel proved `bound`, rounding included."),
    "claimed": Key("number", "What layers of another library promise by construction."),
    "body": Key("number", "Proven of all that lies before a last layer with rows of length 1; else `bound`."),
    "layout": Key("string", "Whose layer it is, told by the names of its arrays."),
    # layers and scalings
    "name": Key("string", "Of a layer as the file has it, or of a curve."),
    "kind": Key("string", "dense, conv1d, conv2d or conv3d."),
    "form": Key("string", "linear: W T^(-1/2) x; residual: x - 2 W T^-1 act(W^T x)."),
    "scaling": Key("string", "What proposed T; `min_trace` and `max_volume` are optima."),
    "verdict": Key("string", "satisfied, violated (with a vector as proof) or undecided (1 + tol is inside)."),
    "trace": Key("number", "Sum of t; null where it is not finite.", null=True),
    "trace_lower": Key("number", "No feasible t has a smaller sum: proven. Null of closed forms.", null=True),
    "log_det": Key("number", "Sum of log t.", null=True),
    "mean_singular_value": Key("number", "Of W T^(-1/2): an estimate.", null=True),
    "orthogonality_defect": Key("number", "|I - P^T P| of P = W T^(-1/2): an estimate.", null=True),
    "objective": Key("string", "What the optimum minimises: min_trace or max_volume."),
    "solver": Key("string", "Which found the optimum; null of closed forms.", null=True),
    # networks
    "method": Key("string", "Which proposed the proof."),
    "order": Key("integer", "Of the largest matrix inequality."),
    "output_norm": Key("string", "l2, or linf: of the largest output."),
    "row": Key("integer", "With linf, the output that has the largest bound; null where all at once had the least.", null=True),
    "words": Key("string", "The claim in words."),
    "note": Key("string", "What happened on the way, or why there is no bound; empty if nothing did."),
    "checked": Key("string", "How an ONNX graph was compared with another evaluation; empty if it was not."),
    "array": Key("string", "Name of an array in the file."),
    "why": Key("string", "Why it takes no part."),
    # certificates
    "proven": Key("boolean", "Whether it was proven again."),
    "reason": Key("string", "Why not; empty where it was."),
    # accuracy
    "data": Key("string", "The data set; null where a table does not say it.", null=True),
    "split": Key("string", "test, validation or train."),
    "n": Key("integer", "Number of images."),
    "clean": Key("number", "Share of right predictions; null where none is known.", null=True),
    "mean_radius": Key("number", "Mean certified radius, wrong predictions count 0.", null=True),
    "rounding": Key("string", "proven: subtracted; float64: computed in double precision, nothing subtracted."),
    "precision": Key("string", "In which the network runs."),
    "scope": Key("string", "computed: the network as it computes; exact: in exact arithmetic."),
    "arithmetic": Key("string", "Of the network that a certificate is about."),
    "attack": Key("string", "Name of an attack."),
    "eps": Key("number", "A radius, l2 of images in [0, 1]."),
    "accuracy": Key("number", "Share that the attack leaves right."),
    "seconds": Key("number", "Of work, without imports."),
    # smoothing
    "sigma": Key("number", "Standard deviation of the noise on a pixel."),
    "draws": Key("integer", "Noisy copies of an image from which its certificate follows."),
    "selection": Key("integer", "Further copies, which select the class."),
    "alpha": Key("number", "Probability that the certificate of an image is wrong."),
    "probability": Key("number", "With which the certificate of an image holds; null of what is proven.", null=True),
    "evaluations": Key("integer", "Of the network, for one image; null of what is proven.", null=True),
    "abstained": Key("number", "Share of images without an answer."),
    # regression
    "tolerance": Key("number", "Errors below it count as right, in standard deviations of the target."),
    "unit": Key("number", "What a standard deviation of the only target is worth; 1 where there are several."),
    "r2": Key("number", "At most the coefficient of determination, 1 less the share of variance that is not explained."),
    "rmse": Key("number", "At least the root mean square error, in the unit of the target."),
    # tighten
    "pairs": Key("string", "The best kind of proof that a pair of classes has: none, front, shared multipliers, own multipliers."),
    "pairs_tried": Key("integer", "Pairs that could become smaller."),
    "pairs_own": Key("integer", "Pairs with multipliers of their own."),
    "pairs_hopeless": Key("integer", "Pairs that cannot become smaller."),
    "gain": Key("number", "Mean of old constants (of `local`: new radii) over new (old) ones."),
    "helped": Key("boolean", "Whether any constant became smaller."),
    "balls": Key("integer", "Balls around images that were bounded."),
    # certify --local
    "seconds_an_image": Key("number", "CPU time of an image that constants left open."),
    "unfit": Key("string", "Why offsets were not tried; empty where they were."),
    # train
    "finished": Key("boolean", "False if the run was stopped; the same command goes on."),
    "steps": Key("integer", "Of the optimiser."),
    "epochs": Key("number", "Passes over the training split."),
    "images_per_second": Key("number", "In the last epoch, without validation."),
    "selected": Key("integer", "Step of the weights that were kept."),
    "unproven": Key("string", "Why nothing is proven; empty where it is."),
    "proof_seconds": Key("number", "Of the proof, no part of a time budget."),
    # sweep
    "run": Key("string", "The folder of a run."),
    "front": Key("boolean", "Whether no other run is at least as good in both shares and better in one."),
    "seed": Key("integer", "Of initial weights, order and augmentation."),
    "mean": Key("number", "Over the seeds."),
    "least": Key("number", "Over the seeds."),
    "most": Key("number", "Over the seeds."),
    # published rows
    "paper": Key("string", "Name that --reference takes."),
    "source": Key("string", "Where a published number was read."),
    "doubt": Key("string", "Why a published row does not count as certified; null where nothing is known.", null=True),
    "extra_data": Key("boolean", "Trained on generated images too."),
}  # fmt: skip

_CERTIFIED = Node(
    "certified", "map", "Proven share of right predictions at each radius.", ["number"], null=True
)
_PROBABLE = Node(
    "certified_with_probability", "map", "Share of right predictions at each radius, by certificates that hold with `probability`.",
    ["number"], null=True,
)  # fmt: skip
_SMOOTHED = ("clean", "abstained", _PROBABLE, "mean_radius")
_ASSUMED = Node("assumed", "list", "What the file does not say itself, sentence by sentence.", ["string"])
_LEFT_OUT = Node("left_out", "many", "Arrays of the file that take no part.", ["array", "why"])
_SHAPE = Node("shape", "list", "Of the array in the file.", ["integer"])
_CLAIM = Node("claim", "any", "The claim as the certificate has it.")
_VALUES = Node("values", "map", "Of the keys that vary.", ["string"])
_RANGE = ("mean", "least", "most")
_POINT = ("attack", "eps", "accuracy")
_SIDE = ("bound", "margin_constant", _CERTIFIED, "mean_radius")
_METHOD = ("method", "bound", "lower", "lower_proven", "sdp_lower", "gap", "seconds", "order", "row", "note")
_PROOF = ("c", "c_lower", "bound")

DOCUMENTS: dict[str, Parts] = {
    "check": (
        "file", "verdict",
        Node("layers", "many", "One a layer.",
             ("name", _SHAPE, "kind", "form", "scaling", "verdict", *_PROOF, "trace", "seconds")),
        "certificate", "verify",
    ),
    "compare": (
        "file", "objective",
        Node("layers", "many", "One a layer.", ("name", _SHAPE, "kind", "form", Node(
            "scalings", "many", "One a scaling, the optimum last.",
            ("scaling", "trace", "trace_lower", "log_det", *_PROOF, "mean_singular_value", "orthogonality_defect",
             "seconds", "solver", "gap")))),
        "figure",
    ),
    "scale": (
        "file", "output",
        Node("layers", "many", "One a layer.", ("name", _SHAPE, "form", "scaling", "trace", *_PROOF, "seconds")),
        "certificate", "verify",
    ),
    "bound": (
        "file", *_METHOD, "rigorous",
        Node("output_pair", "list", "The two outputs whose difference is bounded.", ["integer"], null=True),
        "output_norm", "words", "expands",
        Node("witness", "list", "A point with a Jacobian of the norm `lower`, where that is proven.", ["number"], null=True),
        Node("tried", "many", "Every method that was asked, the reason in `note`.",
             ("method", "bound", "seconds", "note")),
        Node("methods", "many", "With --compare, one a method.", _METHOD, null=True),
        _ASSUMED, _LEFT_OUT, "checked", "certificate", "verify", "figure",
    ),
    "recertify": (
        "file", "claimed", "bound",
        Node("layers", "many", "One a layer.",
             ("name", _SHAPE, "kind", "form", "layout", "claimed", "bound", "seconds")),
        Node("whole", "one", "The network, where the file has a published architecture; `claimed` is of `body`.",
             ("claimed", "body", "bound", Node("input_shape", "list", "Of one image.", ["integer"]), "seconds"),
             null=True),
        "note", _ASSUMED, _LEFT_OUT,
    ),
    "verify": (
        "certificate", "file", "proven", "reason", _ASSUMED, _LEFT_OUT,
        Node("claims", "many", "In the order of the certificate.", (_CLAIM, "words", "proven", "reason")),
    ),
    "show": (
        "certificate", "sha256",
        Node("made", "map", "By which versions of what.", ["string"]),
        Node("reading", "any", "How the file is read."),
        Node("claims", "many", "In the order of the certificate.", (_CLAIM, "words")),
    ),
    "certify": (
        "file", "data", "split", "n", "clean", "bound", "margin_constant", _CERTIFIED, "mean_radius",
        Node("empirical", "map", "Share of right predictions that each attack leaves, by radius.",
             [Node("", "map", "", ["number"])]),
        Node("gaps", "map", "What lies between each attack and the certificate, by radius.",
             [Node("", "map", "", ["number"])]),
        "rounding", "precision", "scope",
        Node("tree", "list", "The reasons for `bound`, line by line.", ["string"]),
        "seconds", _ASSUMED, "note", "samples", "certificate", "verify",
        Node("local", "one", "With --local.",
             (Node("before", "map", "`certified` without it.", ["number"]),
              Node("by", "map", "At each radius, how many images `constants`, `offsets`, `increments`, `splits`, `multipliers` certified.",
                   [Node("", "map", "", ["integer"])]),
              "seconds_an_image", "unfit"), null=True),
        Node("smoothing", "one", "With --smoothing: not proven.",
             ("sigma", "draws", "selection", "alpha", "probability", "evaluations", "seconds",
              Node("cohen", "one", "Cohen's certificate.", _SMOOTHED),
              Node("score", "one", "That of the Lipschitz score.", _SMOOTHED, null=True)), null=True),
        Node("regression", "one", "Of a run of numbers, where `clean` and `certified` count errors below `tolerance`.",
             ("tolerance", "unit", "r2",
              Node("r2_at", "map", "Proven: the least `r2` when every row moves by up to the radius.", ["number"]), "rmse",
              Node("interval", "map", "Proven: how far a prediction moves at most, in the unit of the target.", ["number"])),
             null=True),
    ),
    "tighten": (
        "file", "data", "split", "n", "clean",
        Node("before", "one", "With the constants layer by layer.", _SIDE),
        Node("after", "one", "With those of the whole network.", _SIDE),
        Node("whole", "one", "The bound of all outputs; null where nothing was to be gained.",
             ("bound", "method", "lower"), null=True),
        Node("front", "one", "That of the network in front of its last matrix; null where there is none.",
             ("bound", "method"), null=True),
        "pairs", "pairs_tried", "pairs_own", "pairs_hopeless", "gain", "helped", "rounding", "precision", "seconds", _ASSUMED, "note",
        Node("local", "one", "With --local, of the first images.",
             ("n", "clean", Node("before", "one", "", (_CERTIFIED, "mean_radius")),
              Node("after", "one", "", (_CERTIFIED, "mean_radius")), "gain", "balls", "seconds"), null=True),
        Node("proof", "one", "What stands in the certificate.",
             ("network", "images", "arithmetic", "n", "mean_radius"), null=True),
        "certificate", "verify", "figure",
    ),
    "train": (
        "file", "finished", "steps", "epochs", "seconds", "images_per_second", "selected", "eps",
        Node("monitored", "one", "While training, on the validation split: not proven.", ("clean", _CERTIFIED)),
        "clean", _CERTIFIED, "bound", "unproven", "proof_seconds",
    ),
    "sweep": (
        "file", "output", "finished", "eps",
        Node("trials", "many", "One a combination of values, shares of the validation split.",
             (_VALUES, "run", "clean", _CERTIFIED, "bound", "unproven", "front")),
        Node("chosen", "one", "The one that certifies most validation images; null without one.", (_VALUES, "run"), null=True),
        Node("finals", "many", "With --seeds, the chosen one, one a seed; shares of the test set.",
             ("seed", "run", "clean", _CERTIFIED, "mean_radius", "bound")),
        Node("over_seeds", "one", "Of the finals; null without them.",
             (Node("clean", "one", "", _RANGE),
              Node("certified", "map", "By radius.", [Node("certified", "one", "", _RANGE)]),
              Node("mean_radius", "one", "", _RANGE)), null=True),
        "figure", "csv",
    ),
    "curves": (
        Node("curves", "many", "One a run.",
             ("name", "probability", "evaluations", "n", "clean", _CERTIFIED, _PROBABLE, "mean_radius",
              Node("attacks", "many", "What attacks leave.", _POINT),
              Node("broken", "many", "Attacks below the curve: a false certificate, or other samples.", _POINT), "data")),
        Node("references", "many", "Published rows.",
             ("paper", "name", "data", "clean", _CERTIFIED, "source", "doubt", "extra_data", "note")),
        "figure", "csv",
    ),
    "report": ("file", "output", Node("beside", "list", "Files of the proof that the page has no room for.", ["string"]), "bound", "verify"),
    "completion": ("shell", "script", "installed"),
}  # fmt: skip
"""The keys of each command, in order, behind `command` and `schema`."""

HEAD = ("command", "schema")
FAILURE: Parts = ("error", "error_kind", "exit_code")
"""What every command prints when it fails."""
PRESETS: Parts = (Node("presets", "list", "Names for `sdplip train --preset`.", ["string"]),)
"""What `sdplip train --list-presets --json` prints."""
OTHERS: dict[str, Parts] = {"error": FAILURE, "presets": PRESETS}
"""Documents that are not the answer of a command."""


def name_of(part: str | Node) -> str:
    """The key."""
    return part if isinstance(part, str) else part.name


def schema(command: str) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of what `sdplip COMMAND --json` prints; "error" is the document of a failure, "presets" that of
    `sdplip train --list-presets`.

    Raises:
        KeyError: no such command.
    """
    parts = {**DOCUMENTS, **OTHERS}[command]
    said = {"title": f"sdplip {command} --json", "description": f"Version {SCHEMA} of the keys."}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **said, **_object((*HEAD, *parts))}


def _object(parts: Parts) -> dict[str, Any]:
    names = list(map(name_of, parts))
    return {
        "type": "object",
        "properties": dict(zip(names, map(_value, parts), strict=True)),
        "required": names,
        "additionalProperties": False,
    }


def _value(part: str | Node) -> dict[str, Any]:
    """The schema of one value."""
    if isinstance(part, str):
        key = KEYS[part]
        return {"type": [key.type, "null"] if key.null else key.type, "description": key.text}
    inner: dict[str, Any] = {}
    if part.how == "one":
        inner = _object(part.parts)
    elif part.how == "many":
        inner = {"type": "array", "items": _object(part.parts)}
    elif part.how in ("map", "list"):
        (item,) = part.parts
        each = _value(item) if isinstance(item, Node) else {"type": item}
        inner = {"type": "object", "additionalProperties": each} if part.how == "map" else {"type": "array", "items": each}  # fmt: skip
    if part.null:
        inner["type"] = [inner["type"], "null"]
    return {**inner, **({"description": part.text} if part.text else {})}
