"""What only a GPU can say, in a quarter of an hour: device tests, rounding, throughput, training, solvers, layers.

    python benchmarks/gpu.py --minutes 15 --out gpu.json            # on a machine with CUDA; CIFAR-10 from SDPLIP_DATA
    python benchmarks/gpu.py --device cpu --tiny --out tiny.json    # the rehearsal that the tests run

Every stage has its share of the minutes and stops there; OUT.json is written after each, so that what was found is kept if the
machine goes. Prints tables, in Markdown. Exit code 1 if a device test failed or a proven rounding bound was passed.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sdplip.nn import CayleyConv2d, ResidualConv2d, ResidualLinear, export_plain, lipschitz
from sdplip.robustness.arithmetic import network_in, plain_arithmetic
from sdplip.robustness.forward_error import Affine, output_error
from sdplip.solvers import MinTrace, solve
from sdplip.solvers.interior_point import InteriorPoint
from sdplip.training import override, preset, train
from sdplip.training.build import build_loss, build_model
from sdplip.training.objective import Objective
from sdplip.training.schedules import build_optimiser
from sdplip.writing import write_bytes

ROOT = Path(__file__).parents[1]
SMALL = (
    "model.convolutions=1",
    "model.dense=1",
    "model.width=8",
    "model.hidden_channels=8",
    "model.hidden=16",
)
"""Changes that make a preset small enough for the rehearsal."""


@dataclass
class Run:
    """What was asked, when it ends, and what was found so far.

    Attributes:
        end: of the stage that runs, by `time.monotonic`.
    """

    device: torch.device
    tiny: bool
    out: Path
    end: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    def late(self) -> bool:
        return time.monotonic() > self.end

    def left(self) -> float:
        return max(1.0, self.end - time.monotonic())

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.cuda:
            torch.cuda.synchronize()


def tests(run: Run) -> dict[str, Any]:
    """The tests that need a GPU."""
    what = "cuda" if run.cuda else "cpu and activations"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_nn_devices.py",
        "-k",
        what,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=run.left())
    return {"exit code": done.returncode, "last line": done.stdout.strip().splitlines()[-1]}


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Conv2d(16, 32, 3, padding=1), (16, 32, 32)),
    "dilated": (lambda: nn.Conv2d(16, 16, 3, dilation=2), (16, 32, 32)),
    "depthwise": (lambda: nn.Conv2d(16, 16, 3, groups=16), (16, 32, 32)),
    "transposed": (lambda: nn.ConvTranspose2d(16, 8, 3, 2), (16, 16, 16)),
    "1-D": (lambda: nn.Conv1d(16, 32, 5), (16, 64)),
    "3-D": (lambda: nn.Conv3d(4, 8, 3), (4, 8, 8, 8)),
    "linear": (lambda: nn.Linear(2048, 512), (2048,)),
    "residual convolution": (lambda: ResidualConv2d(45, 5, 3), (45, 32, 32)),
    "residual linear": (lambda: ResidualLinear(288, 300), (288,)),
    "Cayley convolution": (lambda: CayleyConv2d(8, 8, 3, (8, 8)), (8, 8, 8)),
}


def rounding(run: Run) -> dict[str, Any]:
    """True error of a float32 forward pass, against float64 with the same weights, over its proven bound: below 1."""
    found = {}
    for name, (make, shape) in LAYERS.items():
        if run.late() or (run.tiny and name not in ("convolution", "linear")):
            continue
        torch.manual_seed(0)
        with plain_arithmetic(run.device), torch.no_grad():
            network = network_in(nn.Sequential(make()).to(run.device), "float32")
            plain = export_plain(network).model
            x = torch.randn(8, *shape, device=run.device)
            flow = output_error(plain, lipschitz(plain, input_shape=shape))
            y, error, _ = flow(x, Affine(np.zeros(8), 0.0))
            repeats = all(torch.equal(flow(x, Affine(np.zeros(8), 0.0))[0], y) for _ in range(3))
            truth = plain.double()(x.double())
        off = (y.double() - truth).flatten(1).norm(dim=1).cpu().numpy()
        found[name] = {"true / proven": float((off / error.constant).max()), "repeats exactly": repeats}
    return found


def throughput(run: Run) -> dict[str, Any]:
    """Images a second of training steps, batch 256, by preset and precision; kernels and memory on a GPU."""
    found = {}
    sizes = ("S", "M", "L", "XL") if not run.tiny else ("S",)
    names = [f"{family}-{size}" for size in sizes for family in ("sll", "cpl")]
    names.insert(2, "shift")  # before the large ones, for which the time may not last
    for name in names:
        for precision in ("float32", "bfloat16"):
            if run.late():
                return found
            small = SMALL if name != "shift" else ("model.width=48", "model.convolutions=1")
            config = override(preset(f"cifar10-{name}"), list(small if run.tiny else ()))
            torch.manual_seed(0)
            model = build_model(config.model, image_shape=(3, 32, 32), classes=10, mean=(0.5,) * 3)
            model = model.to(run.device).train()
            objective = Objective(model, model, build_loss(config.loss), precision)
            optimiser = build_optimiser(config.optimiser, model, half=precision == "bfloat16")
            found[f"{name} {precision}"] = _steps(run, model, objective, optimiser, precision)
            del model, objective, optimiser
    return found


def _steps(
    run: Run, model: nn.Module, objective: nn.Module, optimiser: torch.optim.Optimizer, precision: str
) -> dict[str, Any]:
    batch, steps = (8, 2) if run.tiny else (256, 12)
    x = torch.rand(batch, 3, 32, 32, device=run.device)
    y = torch.randint(0, 10, (batch,), device=run.device)
    if precision == "bfloat16":
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        x = x.contiguous(memory_format=torch.channels_last)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        objective(x, y, 0.5).backward()
        optimiser.step()

    for _ in range(2):
        step()
    run.wait()
    begin, done = time.perf_counter(), 0
    while done < steps and not (done and run.late()):
        step()
        done += 1
    host = time.perf_counter() - begin
    run.wait()
    wall = time.perf_counter() - begin
    found: dict[str, Any] = {"images/s": batch * done / wall, "host share": host / wall}
    if run.cuda:
        found |= {"peak GB": torch.cuda.max_memory_allocated() / 1e9} | _kernels(run, step)
        torch.cuda.reset_peak_memory_stats()
    return found


def _kernels(run: Run, step: Callable[[], None]) -> dict[str, Any]:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        step()
        run.wait()
    events = [e for e in profiled.events() or () if e.device_type.name == "CUDA"]
    return {"kernels": len(events), "kernel ms": sum(e.device_time_total for e in events) / 1e3}


def training(run: Run) -> dict[str, Any]:
    """Short trainings with their certified accuracy, by published and by our own shapes."""
    found = {}
    names = ("cifar10-sll-S", "cifar10-cpl-S", "cifar10-shift") if not run.tiny else ("digits-sll",)
    data = Path(os.environ.get("SDPLIP_DATA", ""), "data", "cifar10")
    for number, name in enumerate(names):
        if run.late():
            break
        changes = [
            f"train.device={run.device.type}",
            "train.precision=bfloat16" if run.cuda else "train.threads=1",
        ]
        if run.tiny:
            changes += ["train.steps=6", "train.batch=16", *SMALL]
        else:
            minutes = run.left() / 60 / (len(names) - number) * 0.7
            changes += [f"train.minutes={minutes:.3f}", f'data.path="{data}"', "data.validation=0.05"]
        with tempfile.TemporaryDirectory() as folder:
            if run.cuda:
                torch.cuda.reset_peak_memory_stats()
            summary = train(override(preset(name), changes), Path(folder, "run"))
        memory = {"peak GB": torch.cuda.max_memory_allocated() / 1e9} if run.cuda else {}
        found[name] = memory | {
            "images/s": summary.images_per_second, "epochs": summary.epochs, "clean": summary.clean,
            "proven clean": summary.proven_clean, f"certified at {summary.eps:.4f}": summary.proven_certified,
            "seconds": summary.seconds,
        }  # fmt: skip
    return found


def solvers(run: Run) -> dict[str, Any]:
    """Least trace of Gaussian n x n layers by the interior point, on the device and, up to 1024, on the CPU."""
    found = {}
    for n in (24,) if run.tiny else (256, 1024, 2048, 4096):
        W = np.random.default_rng(0).normal(size=(n, n))
        for device in dict.fromkeys((run.device.type, "cpu") if n <= 1024 else (run.device.type,)):
            if run.late():
                return found
            begin = time.perf_counter()
            solution = solve(MinTrace(W), InteriorPoint(device=device))
            gap = None if solution.lower is None else 1 - solution.lower / solution.objective
            wall = time.perf_counter() - begin
            found[f"{n} {device}"] = {"status": solution.status.name, "gap": gap, "seconds": wall}
    return found


def layers(run: Run) -> dict[str, Any]:
    """`benchmarks/layers.py` on the device."""
    options = ["--small", "--only", "dense 64", "--rounds", "2"] if run.tiny else ["--rounds", "6"]
    command = [sys.executable, "benchmarks/layers.py", "--device", run.device.type, *options]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=run.left())
    return {"exit code": done.returncode, "table": done.stdout.splitlines() or done.stderr.splitlines()[-3:]}


STAGES: dict[Callable[[Run], dict[str, Any]], float] = {
    tests: 0.12, rounding: 0.08, throughput: 0.2, training: 0.4, solvers: 0.1, layers: 0.1
}  # fmt: skip
"""Stages with their shares of the time."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--tiny", action="store_true", help="a rehearsal of seconds")
    parser.add_argument("--only", nargs="*", default=[stage.__name__ for stage in STAGES], metavar="STAGE")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("This machine has no CUDA device. Rehearse with `--device cpu --tiny`.")
    run = Run(torch.device(options.device), options.tiny, options.out)
    name = torch.cuda.get_device_name() if run.cuda else platform.processor() or platform.machine()
    run.found["machine"] = {"device": name, "torch": torch.__version__, "cuda": torch.version.cuda}
    for stage, share in STAGES.items():
        if stage.__name__ not in options.only:
            continue
        begin = time.monotonic()
        run.end = begin + 60 * options.minutes * share
        try:
            found = stage(run)
        except (
            Exception
        ) as error:  # the next stage may still tell something, and a rented machine does not come back
            found = {"error": f"{type(error).__name__}: {error}"[:500]}
        run.found[stage.__name__] = found | {"seconds": round(time.monotonic() - begin, 1)}
        write_bytes(run.out, json.dumps(run.found, indent=1).encode())
        print(f"\n{stage.__name__}, {run.found[stage.__name__]['seconds']} s\n\n{table(found)}", flush=True)
    sys.exit(1 if wrong(run.found) else 0)


def wrong(found: dict[str, Any]) -> list[str]:
    """What must not be: an error, a failed test, a rounding error beyond its proven bound."""
    stages = {name: value for name, value in found.items() if name != "machine"}
    errors = [name for name, value in stages.items() if "error" in value or value.get("exit code", 0)]
    ratios = {k: v for k, v in stages.get("rounding", {}).items() if isinstance(v, dict)}
    return errors + [name for name, value in ratios.items() if not value["true / proven"] <= 1]


def table(found: dict[str, Any]) -> str:
    """A Markdown table of rows with equal columns; other entries line by line."""
    rows = {name: value for name, value in found.items() if isinstance(value, dict)}
    if not rows:
        lists = (value if isinstance(value, list) else [str(value)] for value in found.values())
        return "\n".join(line for lines in lists for line in lines)
    head = list(dict.fromkeys(key for value in rows.values() for key in value))
    lines = [["", *head], ["---"] * (len(head) + 1)]
    lines += [[name, *(_shown(value.get(key)) for key in head)] for name, value in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _shown(value: Tensor | float | str | None) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


if __name__ == "__main__":
    main()
