"""A sweep: one run for every combination of values, chosen on the validation split, final runs of several seeds, the test set once."""

import hashlib
import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdplip.display import brief, figure, html
from sdplip.errors import Diverged, InvalidConfig
from sdplip.robustness.certification import certify_accuracy
from sdplip.training import run as folder
from sdplip.training.config import RunConfig, override
from sdplip.training.data import DataSet, augmentation, load
from sdplip.training.files import read_json, write_json
from sdplip.training.loop import train
from sdplip.training.precision import resolved
from sdplip.training.progress import Progress
from sdplip.training.run import RunSummary, load_run

TEST = "test.json"
"""In the folder of a final run: what the test set says of its weights."""

Watch = Callable[[str, int, int, Progress], None]
"""Called with the name of a run, how many came before it, how many there are, and its progress."""


@dataclass(frozen=True)
class Trial:
    """One combination of values, on the validation split.

    Attributes:
        values: of the keys that vary, as texts.
        folder: of its run.
        clean, certified: proven shares of the validation images, the second at `Sweep.eps`; None where nothing is proven.
        bound: proven of the network; None where nothing is.
        why: why nothing is proven; empty where it is.
        front: whether no other trial is at least as good in both shares and better in one.
    """

    values: Mapping[str, str]
    folder: str
    clean: float | None
    certified: float | None
    bound: float | None
    why: str = ""
    front: bool = False

    @property
    def name(self) -> str:
        """`loss.offset=0.5`, with commas between several."""
        return ",".join(f"{key}={value}" for key, value in self.values.items())


@dataclass(frozen=True)
class Final:
    """The chosen combination with one seed, on the whole test set.

    Attributes:
        seed: `train.seed`.
        folder: of its run.
        clean, mean_radius, bound: proven.
        certified: proven share by radius.
    """

    seed: int
    folder: str
    clean: float
    certified: Mapping[str, float]
    mean_radius: float
    bound: float


@dataclass(frozen=True)
class Sweep:
    """What came of a sweep.

    Attributes:
        folder: that holds all runs.
        eps: radius at which `certified` of the trials counts.
        trials: in the order of the values.
        chosen: the one that certifies the most validation images, the cleaner one among equals, the first among those; None without one.
        finals: one a seed; empty if no seeds were asked for.
        finished: False if it was stopped; the same call goes on.
    """

    folder: str
    eps: float
    trials: tuple[Trial, ...]
    chosen: Trial | None
    finals: tuple[Final, ...]
    finished: bool

    __repr__ = brief("folder", "eps", "chosen", "finals", "finished")
    _repr_html_ = html
    plot = figure


def sweep(
    config: RunConfig,
    values: Mapping[str, Sequence[str]],
    out: Path | str,
    *,
    seeds: int = 0,
    radii: Sequence[str] = (),
    watch: Watch | None = None,
    stop: Callable[[], bool] | None = None,
) -> Sweep:
    """Train a run for every combination of `values`, compare their proven shares on the validation split, and choose.

    What is in `out` already is not trained again, and an interrupted run goes on where it was. The test set is looked at for the chosen
    combination alone, once for each seed, and only if `seeds` says so. A run whose loss is not finite is a trial without a proof.

    Args:
        config: what all runs share.
        values: of some keys of run files, each as `override` takes it: `{"loss.offset": ["0.1", "0.2"]}`.
        out: folder of the sweep; every run is a folder in it.
        seeds: of the final runs: `train.seed` of `config` and the numbers after it; 0 for none.
        radii: of the test set, as texts; `train.eps` if there are none.
        watch: called as the runs report.
        stop: asked at each step; True ends the sweep, and the same call goes on with it.

    Raises:
        InvalidConfig: no key varies, one has a value that does not fit, the run has no validation split or learns numbers, or several
            processes call this.
        InvalidRun: a folder holds another run.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InvalidConfig(
            "A sweep is work of one process. Start it without torchrun, or train its runs one by one with `sdplip train`."
        )
    out = Path(out)
    plans = [(names, override(config, [f"{k}={v}" for k, v in names.items()])) for names in _grid(values)]
    for _, plan in plans:
        _choosable(plan)
    work = _Work(out, config.train.seed, len(plans), watch, stop or (lambda: False))
    trials = []
    for names, plan in plans:
        trial = work.trial(names, plan)
        if trial is None:
            return _answer(out, config, trials, (), finished=False)
        trials.append(trial)
    found = _answer(out, config, trials, (), finished=True)
    if found.chosen is None or not seeds:
        return found
    work.total += seeds - 1
    finals = []
    plan = override(config, [f"{k}={v}" for k, v in found.chosen.values.items()])
    for seed in range(plan.train.seed, plan.train.seed + seeds):
        final = work.final(found.chosen, replace(plan, train=replace(plan.train, seed=seed)), radii)
        if final is None:
            return replace(found, finals=tuple(finals), finished=False)
        finals.append(final)
    return replace(found, finals=tuple(finals))


def over_seeds(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean, least and most."""
    return sum(values) / len(values), min(values), max(values)


class _Work:
    """Runs of a sweep, one after the other, on data that are loaded when the first one needs them."""

    def __init__(
        self, out: Path, seed: int, total: int, watch: Watch | None, stop: Callable[[], bool]
    ) -> None:
        self.out, self.seed, self.total, self.watch, self.stop = out, seed, total, watch, stop
        self.done = 0
        self.loaded: dict[Any, DataSet] = {}

    def trial(self, names: Mapping[str, str], plan: RunConfig) -> Trial | None:
        """The run of a combination; None if it was stopped."""
        name = ",".join(f"{key}={value}" for key, value in names.items())
        place = self.out / _folder_name(name)
        try:
            summary = self.trained(name, plan, place)
        except Diverged as error:
            self.done += 1
            return Trial(names, str(place), None, None, None, str(error))
        if not summary.finished:
            return None
        return Trial(
            names, str(place), summary.proven_clean, summary.proven_certified, summary.bound, summary.unproven
        )

    def final(self, chosen: Trial, plan: RunConfig, radii: Sequence[str]) -> Final | None:
        """The run of a seed on the test set; None if it was stopped."""
        place = Path(chosen.folder)
        if plan.train.seed != self.seed:
            place = place.with_name(f"{place.name},train.seed={plan.train.seed}")
        name = f"{chosen.name}, seed {plan.train.seed}"
        if not self.trained(name, plan, place).finished:
            return None
        found = self._tested(plan, place, tuple(radii) or (repr(plan.train.eps),))
        return Final(plan.train.seed, str(place), **found)

    def trained(self, name: str, plan: RunConfig, place: Path) -> RunSummary:
        """The summary of a run, which is trained unless it is there already."""
        plan = resolved(plan, there=folder.precision_there(place))
        summary = folder.prepare(place, plan, resume=True)
        if summary is None:
            report = None
            if self.watch is not None:
                watch, done, total = self.watch, self.done, self.total
                report = lambda now: watch(name, done, total, now)  # noqa: E731
            summary = train(plan, place, data=self.data(plan), progress=report, stop=self.stop)
        self.done += summary.finished
        return summary

    def data(self, plan: RunConfig) -> DataSet:
        """The data of a run; runs on the same data share them."""
        if plan.data not in self.loaded:
            self.loaded[plan.data] = load(plan.data)
        return self.loaded[plan.data]

    def _tested(self, plan: RunConfig, place: Path, radii: tuple[str, ...]) -> dict[str, Any]:
        """What the test set says of these very weights; read again if it was asked at these radii before."""
        digest = hashlib.sha256((place / folder.MODEL).read_bytes()).hexdigest()
        answer = place / TEST
        if answer.exists():
            known = read_json(answer)
            if known["sha256"] == digest and tuple(known["found"]["certified"]) == radii:
                return known["found"]
        test = self.data(plan).test
        proof = certify_accuracy(load_run(place)[1], test.images, test.labels)
        found = {
            "clean": proof.clean,
            "certified": {eps: proof.certified(eps) for eps in radii},
            "mean_radius": proof.mean_radius,
            "bound": proof.bound.value,
        }
        write_json(answer, {"sha256": digest, "found": found})
        return found


def _grid(values: Mapping[str, Sequence[str]]) -> list[dict[str, str]]:
    """All combinations, the last key varying fastest."""
    if not values or any(len(texts) == 0 for texts in values.values()):
        raise InvalidConfig(
            "A sweep needs a key with values to choose from. Name one, such as `loss.offset=0.1,0.2,0.4`."
        )
    for key in ("train.seed", "train.eps"):
        if key in values:
            raise InvalidConfig(
                f"`{key}` is nothing to choose by accuracy. "
                + ("Use `seeds`." if key == "train.seed" else "Set one radius.")
            )
    for key, texts in values.items():
        if len(set(texts)) != len(texts):
            raise InvalidConfig(f"`{key}` has the same value twice: {', '.join(texts)}. Drop one.")
    return [dict(zip(values, texts, strict=True)) for texts in itertools.product(*values.values())]


def _choosable(plan: RunConfig) -> None:
    """Refuse now what would end the sweep after hours."""
    augmentation(plan.data.augment)
    if plan.data.validation == 0:
        raise InvalidConfig(
            "`data.validation` is 0, so there is nothing to choose on: the test set is not for that. Hold out a share, 0.1 for example."
        )
    if plan.loss.name in ("mse", "mae"):
        raise InvalidConfig(
            f"A sweep compares shares of right classes, but `loss.name` is {plan.loss.name!r}, of numbers. Train its runs one by one."
        )


def _folder_name(name: str) -> str:
    """A name as a folder: other characters than those of plain values become `_`, with a digest that keeps them apart."""
    plain = re.sub(r"[^\w.,=+-]", "_", name)
    if plain == name and len(plain) <= 150:
        return plain
    return f"{plain[:120]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _answer(
    out: Path, config: RunConfig, trials: list[Trial], finals: tuple[Final, ...], *, finished: bool
) -> Sweep:
    marked = tuple(replace(trial, front=on_front(trial, trials)) for trial in trials)
    proven = [trial for trial in marked if trial.certified is not None]
    best = max(proven, key=lambda trial: (trial.certified or 0.0, trial.clean or 0.0), default=None)
    return Sweep(str(out), config.train.eps, marked, best if finished else None, finals, finished)


def on_front(trial: Trial, trials: Sequence[Trial]) -> bool:
    """Whether no other one is at least as good in both shares and better in one; not without a proof."""
    if trial.clean is None or trial.certified is None:
        return False
    return not any(
        other.clean is not None
        and other.certified is not None
        and other.clean >= trial.clean
        and other.certified >= trial.certified
        and (other.clean, other.certified) != (trial.clean, trial.certified)
        for other in trials
    )
