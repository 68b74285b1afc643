"""Results in a terminal and a notebook: one line, equality, escaped HTML, figures; nothing is drawn where nobody looks."""

import dataclasses
import io
import json
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from torch import nn

import sdplip
from sdplip import html, plot, progress
from sdplip.robustness.curve import AttackPoint, curve_of_radii
from sdplip.robustness.run import CertifiedRun
from sdplip.solvers import MinTrace, Mixing, prove, solve
from sdplip.training.data import DataSet
from sdplip.training.data.dataset import Split
from sdplip.training.metrics import Line
from sdplip.training.run import RunSummary
from sdplip.training.trials import Final, Sweep, Trial
from sdplip.weights import Weight
from tests.training_runs import few, small

EVIL = "<script>alert('x')</script>&\x1b[31m"
W = np.random.default_rng(0).normal(size=(4, 5))


def module():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()


def samples():
    torch.manual_seed(1)
    return torch.rand(30, 4), torch.arange(30) % 3


def data_set(seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (12, 1, 5, 5), np.uint8)
    split = Split(torch.from_numpy(pixels), torch.arange(12) % 2)
    return DataSet(EVIL, split, None, split, (EVIL, "b"))


def curve():
    radius = np.linspace(0, 1, 50)
    points = [AttackPoint(EVIL, 0.5, 0.7)]
    return curve_of_radii(EVIL, radius, np.arange(50) % 9 > 0, attacks=points)


def run_summary(folder):
    lines = [Line(k, k, 1 / k, 0.1, 0.8, 0.5, 0.14, 100.0, 1.0) for k in (1, 2, 3)]
    text = "".join(json.dumps(dataclasses.asdict(line)) + "\n" for line in lines)
    (folder / "metrics.jsonl").write_text(text)
    return RunSummary(str(folder), True, 3, 3.0, 1.0, 100.0, 2, 0.14, 0.8, 0.5, unproven=EVIL)


def swept():
    one, two = (Trial({"k": EVIL}, EVIL, share, 0.5, 1.5, front=share > 0.6) for share in (0.7, 0.6))
    failed = Trial({"k": "2"}, "run", None, None, None, EVIL)
    finals = (Final(0, "run", 0.7, {"36/255": 0.5}, 0.3, 1.5),)
    return Sweep("sweep", 0.14, (one, two, failed), one, finals, True)


def verification(folder):
    from sdplip.verifier.layers import save_layers

    np.savez(folder / "w.npz", fc=W)
    save_layers(folder / "c.json", folder / "w.npz", [("fc", sdplip.certify(W, np.ones(5)))])
    return sdplip.verify(folder / "c.json", folder / "w.npz")


MADE = {
    "Certificate": lambda _: sdplip.certify(W, np.ones(5), scaling=EVIL),
    "NetworkBound": lambda _: sdplip.bound([W, W[:3, :4]], "product"),
    "Bound": lambda _: sdplip.lipschitz(module()),
    "Solution": lambda _: solve(MinTrace(W), Mixing()),
    "Interval": lambda _: prove(MinTrace(W), solve(MinTrace(W), Mixing())),
    "Certification": lambda _: sdplip.certify_accuracy(module(), *samples()),
    "Curve": lambda _: curve(),
    "CertifiedRun": lambda _: CertifiedRun(curve(), None),
    "CheckReport": lambda _: sdplip.check([Weight(EVIL, W)]),
    "CompareReport": lambda _: sdplip.compare([Weight(EVIL, W)]),
    "DataSet": lambda _: data_set(),
    "RunSummary": run_summary,
    "Sweep": lambda _: swept(),
    "Verification": verification,
}
SAME = ("Certificate", "Bound", "Solution", "Interval", "Certification", "Curve", "CheckReport", "DataSet")


class Tags(HTMLParser):
    """The tags of a fragment, in order, and the words that people read."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)


def test_every_fragment_has_a_class_and_is_made_here():
    assert set(html.FRAGMENTS) == set(MADE)


@pytest.mark.parametrize("kind", MADE)
def test_a_result_is_one_short_line_and_a_fragment(kind, tmp_path):
    result = MADE[kind](tmp_path)
    assert type(result).__name__ == kind
    assert repr(result).startswith(kind) and "\n" not in repr(result) and len(repr(result)) < 600
    text = result._repr_html_()
    tags = Tags(text)
    names = [name for name, _ in tags.tags]
    assert "script" not in names and {"table", "details", "div"} & set(names)
    assert "\x1b" not in text and len(text) < 100_000
    assert not [attrs for _, attrs in tags.tags if any(key.startswith("on") for key in attrs)]


@pytest.mark.parametrize("kind", SAME)
def test_the_same_question_has_an_equal_answer(kind, tmp_path):
    one, two = MADE[kind](tmp_path), MADE[kind](tmp_path)
    assert one == two and hash(one) == hash(two) and one is not two
    assert one != "something else"


def test_other_numbers_are_not_equal():
    proof = sdplip.certify(W, np.ones(5))
    assert proof != sdplip.certify(W, 2 * np.ones(5))
    assert proof != dataclasses.replace(proof, c=proof.c + 1)
    changed = proof.witness.copy()
    changed[0] += 1
    assert proof != dataclasses.replace(proof, witness=changed)
    assert proof != dataclasses.replace(proof, witness=proof.witness.astype(np.float32))
    assert data_set() != data_set(seed=1)


def test_printed_numbers_are_outside_of_the_proven_ones():
    proof = sdplip.certify(W, np.ones(5))
    words = Tags(proof._repr_html_()).words
    (low, high) = next(word[1:-1].split(", ") for word in words if word.startswith("["))
    assert float(low) <= proof.c_lower <= proof.c <= float(high)


def test_the_drawn_curve_is_never_above_the_proven_one():
    from sdplip.html.curves import POINTS, certified_chart

    rng = np.random.default_rng(0)
    many = curve_of_radii("many", rng.random(5000), np.ones(5000, bool))
    svg = certified_chart(many).find("svg")
    (path,) = svg.findall("path")
    steps = path.get("d").replace("M", " ").replace("H", " ").replace("V", " ").split()
    assert len(steps) >= 2 * POINTS
    numbers = list(map(float, steps))
    left, right, top, bottom = 46, 460, 24, 260
    end = 1.04 * float(many.radii[(many.accuracy >= 0.005).sum()])
    for k in range(0, len(numbers) - 3, 2):
        x, y = numbers[k], numbers[k + 1]  # from here to the next x this height is drawn
        r = (numbers[k + 2] - left) / (right - left) * end
        assert (bottom - y) / (bottom - top) <= many.at(max(0.0, r - 2e-4 * end)) + 2e-4
        assert x >= left


def test_a_tree_folds_and_stops_somewhere():
    from sdplip.html.trees import MOST_NODES, bound_nodes
    from sdplip.nn.bounds.tree import Bound

    wide = Bound(2.0, "sum", "whole", tuple(Bound(1.0, "leaf", f"part {k}") for k in range(3)))
    folded = bound_nodes(wide)
    assert folded.tag == "details" and len(list(folded.iter("div"))) == 4
    huge = Bound(2.0, "sum", "whole", tuple(Bound(1.0, "leaf") for _ in range(10 * MOST_NODES)))
    assert len(list(bound_nodes(huge).iter())) < 20


@pytest.mark.parametrize(
    "kind", ["NetworkBound", "Certification", "Curve", "CertifiedRun", "CompareReport", "RunSummary", "Sweep"]
)
def test_results_that_have_a_figure_draw_it(kind, tmp_path):
    figure = MADE[kind](tmp_path).plot()
    assert figure.axes and figure._repr_png_().startswith(b"\x89PNG")
    plot.save(figure, tmp_path / "f.svg")
    assert (tmp_path / "f.svg").read_text().startswith("<?xml")


def test_a_run_without_metrics_has_no_figure(tmp_path):
    summary = run_summary(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("damaged")
    assert "figure" not in [name for name, _ in Tags(summary._repr_html_()).tags]
    with pytest.raises(sdplip.SdplipError, match="no curves"):
        summary.plot()


# ------------------------------------------------------------------------------------------------ progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def questions(**given):
    """The four calls that may take long."""
    yield lambda: sdplip.bound([W, W[:3, :4]], "lipsdp-neuron", **given)
    yield lambda: sdplip.solve(MinTrace(W), **given)
    yield lambda: sdplip.certify_accuracy(module(), *samples(), batch=8, **given)


def test_nothing_is_drawn_where_nobody_looks(capsys):
    for ask in questions():
        ask()
    for ask in questions(progress=None):
        ask()
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_bars(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    for ask in questions():
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        ask()
        assert "gap" in terminal.getvalue() or "certifying" in terminal.getvalue()


def test_functions_are_called_instead():
    steps = []
    for number, ask in enumerate(questions(progress=lambda *step: steps.append(step))):
        before = len(steps)
        ask()
        assert len(steps) > before, number


def test_a_notebook_shows_bars(monkeypatch):
    """IPython as a kernel has it: one output that is drawn anew."""
    IPython = pytest.importorskip("IPython", reason="IPython is not installed")
    shown = []

    class Handle:
        def update(self, drawn):
            shown.append(drawn.data)

    class ZMQInteractiveShell:
        pass

    def display(drawn, display_id):
        assert display_id is True
        shown.append(drawn.data)
        return Handle()

    monkeypatch.setattr(IPython, "get_ipython", ZMQInteractiveShell)
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    for ask in questions():
        shown.clear()
        ask()
        assert "<progress" in shown[0] and "<progress" not in shown[-1]


def test_train_has_a_bar_and_the_same_arguments(tmp_path, monkeypatch):
    config = small("train.steps=3")
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal)
    summary = sdplip.train(config, tmp_path / "run", data=few())
    assert summary.finished and "epoch" in terminal.getvalue()
    assert sdplip.train(config, tmp_path / "run", data=few(), progress=None) == summary


def test_a_result_loads_what_draws_only_when_it_is_drawn():
    code = (
        "import sys, numpy as np, sdplip; c = sdplip.certify(np.eye(2), np.ones(2)); repr(c)\n"
        "late = ('sdplip.html', 'matplotlib', 'torch', 'IPython', 'rich')\n"
        "assert not [m for m in late if m in sys.modules]\n"
        "c._repr_html_(); assert not [m for m in late[1:] if m in sys.modules]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
