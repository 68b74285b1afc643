"""One mutant before the verifier: what comes out, and whether what was accepted is true and was said."""

import contextlib
import hashlib
import io
import json
import re
import signal
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from sdplip.kernel.condition.known import forget
from sdplip.network.read import file as reader
from sdplip.verifier import subject
from sdplip.verifier.main import main
from tests.forge.files import forge_of
from tests.forge.honest import Case
from tests.forge.mutants import by_bytes, by_meaning

OUTCOMES = ("malformed", "refuted", "accepted", "false", "silent", "traceback", "hang", "memory")
"""What may come of a mutant; from the fourth on it must not."""
ADAPTED = 3
"""So often a forger writes what the verifier says it would accept."""


@dataclass(frozen=True)
class Trial:
    """What came of a mutant: one of `OUTCOMES`, the sentence that says why, the text, and how long it took."""

    outcome: str
    why: str
    text: bytes
    seconds: float

    @property
    def bad(self) -> bool:
        return self.outcome not in OUTCOMES[:3]


class Hang(BaseException):
    """The time is over."""


def trials(
    cases: Sequence[Case],
    count: int,
    seed: int,
    folder: Path,
    *,
    limit: float | None = None,
    share: float = 0.75,
) -> Iterator[tuple[Case, str, Trial]]:
    """Mutants of the cases in turn, `share` of them by meaning; with what came of them. `limit` is in seconds of the processor."""
    documents, texts = [case.document for case in cases], [case.text for case in cases]
    with remembered():
        for k in range(count):
            rng = np.random.default_rng([seed, k])
            at = k % len(cases)
            if rng.random() < share:
                how, written = by_meaning(documents[at], rng, documents)
                text = written.encode("utf-8", "surrogatepass")
            else:
                how, text = "bytes", by_bytes(texts[at], rng, texts)
            yield cases[at], how, trial(cases[at], text, folder, limit)


def file_trials(
    cases: Sequence[Case], count: int, seed: int, folder: Path, *, limit: float | None = None
) -> Iterator[tuple[Case, str, Trial]]:
    """Weight files that were changed, under certificates that name them: whoever hands out both may forge both."""
    chosen = [case for case in cases if forge_of(case) is not None]
    for k in range(count):
        rng, case = np.random.default_rng([seed, k]), chosen[k % len(chosen)]
        file, forge = folder / f"forged{case.file.suffix}", forge_of(case)
        assert forge is not None, "chosen for it"
        judge = forge(case, file, rng)
        document = case.document
        document["file"]["sha256"] = hashlib.sha256(file.read_bytes()).hexdigest()
        forged = Case(case.kind, file, json.dumps(document), judge, case.images)
        yield case, "file", trial(forged, forged.text.encode(), folder, limit)


def trial(case: Case, text: bytes, folder: Path, limit: float | None = None) -> Trial:
    """One mutant, adapted to what the verifier says of it."""
    for _ in range(ADAPTED):
        found = judged(case, text, folder, limit)
        better = _adapted(text, found.why) if found.outcome == "refuted" else None
        if better is None:
            break
        text = better
    return found


def judged(case: Case, text: bytes, folder: Path, limit: float | None = None) -> Trial:
    """One mutant as it stands."""
    forget()
    path = folder / "mutant.json"
    path.write_bytes(text)
    arguments = [str(path), str(case.file), *([str(case.images)] if case.images else []), "--json"]
    begin = time.process_time()
    code, out, error = _run(arguments, limit)
    seconds = time.process_time() - begin
    for more in (["--show", str(path)], arguments[:-1]) if len(text) % 16 == 0 else ():
        error = error or _run(more, limit)[2]
    if error:
        return Trial("hang" if error == "hang" else "traceback", error, text, seconds)
    said = json.loads(out) if out else {}
    if code == 2 and not out:
        return Trial("memory", "what was read asks for more memory than there is", text, seconds)
    if code == 2:
        return Trial("malformed", str(said["error"])[:200], text, seconds)
    reasons = "; ".join(c["reason"] for c in said["claims"] if not c["proven"]) or said["reason"]
    if "memory" in reasons:
        return Trial("memory", reasons, text, seconds)
    if code == 1:
        return Trial("refuted", reasons, text, seconds)
    if code != 0 or not said["claims"]:
        return Trial("traceback", f"exit code {code}, {len(said['claims'])} claims", text, seconds)
    lie, silence = _lies(case, json.loads(text), said)
    return Trial("false" if lie else "silent" if silence else "accepted", lie or silence, text, seconds)


def _lies(case: Case, document: Mapping[str, Any], said: Mapping[str, Any]) -> tuple[str, str]:
    """What is false in an accepted certificate, and what was not said."""
    claims, reading = [c["claim"] for c in said["claims"]], document["file"]["reading"]
    honest = case.document
    if len(claims) != len(document["claims"]):
        return f"{len(claims)} of {len(document['claims'])} claims were looked at", ""
    for k, claim in enumerate(claims):
        lie = case.judge.lie(reading, claim)
        if lie:
            return lie, ""
        for entry in honest["claims"] if reading == honest["file"]["reading"] else ():
            same = entry["proof"] == document["claims"][k]["proof"]
            if same and more_than(claim, entry["claim"]):
                return f"claim {k} says more than its proof proves", ""
    left_out = {entry["array"] for entry in said["left_out"]}
    return "", case.judge.silence(reading, claims, "\n".join(said["assumed"]), left_out) or ""


def more_than(claim: Mapping[str, Any], honest: Mapping[str, Any]) -> bool:
    """Whether a claim is a tighter one about the very same thing. Honest bounds of networks are what the proof proves, no more."""
    if claim["kind"] == "expansion" == honest["kind"]:
        return claim["lower"] > honest["lower"]
    if claim["kind"] != "lipschitz" or honest["kind"] != "lipschitz":
        return False
    about = ("output", "norm", "region")
    return all(claim[name] == honest[name] for name in about) and claim["bound"] < honest["bound"]


def _run(arguments: list[str], limit: float | None) -> tuple[int, str, str]:
    """Exit code and output of the command, and the traceback of an error that should not be."""

    def over(*_: object) -> None:
        raise Hang

    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = signal.signal(signal.SIGPROF, over) if limit else None
    try:
        if limit:
            signal.setitimer(signal.ITIMER_PROF, limit)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
    except Hang:
        return -1, "", "hang"
    except BaseException:
        return -1, "", traceback.format_exc()
    finally:
        if limit:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)
    return code, out.buffer.getvalue().decode(), ""  # type: ignore[attr-defined]


def _adapted(text: bytes, why: str) -> bytes | None:
    """The certificate with the number that the verifier says is proven; None where it says none."""
    number = r"([-+0-9.e]+)"
    for pattern in (
        rf"the proof proves only (?P<new>{number}), not the claimed (?P<old>{number})",
        rf"the witness proves only c >= (?P<new>{number}), not the claimed (?P<old>{number})",
        rf"proven are class (?P<class>-?\d+) and radius (?P<new>{number}), claimed are class (?P<was>-?\d+) and radius (?P<old>{number})",
    ):
        found = re.search(pattern, why)
        if found is None:
            continue
        new, old = found["new"], found["old"].rstrip(".")
        document = json.loads(text)
        for entry in document["claims"]:
            claim = entry["claim"]
            for name in ("bound", "c_lower"):
                if name in claim and repr(float(claim[name])) == old:
                    claim[name] = float(new)
            for k, radius in enumerate(claim.get("radius", ())):
                if repr(float(radius)) == old and str(claim["prediction"][k]) == found["was"]:
                    claim["radius"][k], claim["prediction"][k] = float(new), int(found["class"])
                    break
        return json.dumps(document).encode()
    counts = r"image (\d+): proven are (\d+) right pixels of (\d+), claimed are"
    if found := re.search(counts, why):
        image, right, pixels = map(int, found.groups())
        document = json.loads(text)
        for claim in (entry["claim"] for entry in document["claims"]):
            if claim["kind"] == "pixels" and image in claim["index"]:
                k = claim["index"].index(image)
                claim["right"][k], claim["pixels"][k] = min(right, claim["right"][k]), pixels
        return json.dumps(document).encode()
    return None


@contextlib.contextmanager
def remembered() -> Iterator[None]:
    """Files do not change meanwhile, so that each is read once for each reading."""
    before = subject.read_file

    @lru_cache(4096)
    def read(path: Path, reading: str, biases: bool, compare: bool) -> Any:
        try:
            return reader.read_file(path, json.loads(reading), biases=biases, compare=compare)
        except Exception as error:
            return error

    def read_file(path: Path, reading: Mapping[str, Any], *, biases: bool, compare: bool) -> Any:
        found = read(path, json.dumps(reading), biases, compare)
        if isinstance(found, Exception):
            raise found
        return found

    subject.read_file = read_file
    try:
        yield
    finally:
        subject.read_file = before
