"""Builds `sdplip_verify` from the modules of sdplip that a proof needs: the same text, with its own name in the imports, so that
both packages can live in one environment. Needs the repository around it."""

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MODULES = (
    "errors.py",
    "lines.py",
    "shapes.py",
    "display.py",
    "writing.py",
    "geometry.py",
    "stored.py",
    "arithmetic",
    "network",
    "kernel",
    "weights",
    "verifier",
)
WITHOUT = ("network/read/torch", "network/read/torch.py")
INIT = '"""The kernel of sdplip by itself: `sdplip-verify CERT FILE` proves a certificate again."""\n'


class Copy(BuildHookInterface):
    """Copies, renames, and hands the files to the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        source = Path(self.root).parent / "sdplip"
        if not source.is_dir():
            raise RuntimeError("sdplip-verify is built inside a checkout of sdplip: `pip install ./verify`.")
        self.copy = Path(tempfile.mkdtemp())
        said = re.search(
            r'^__version__ = "[^"]+"$', (source / "__init__.py").read_text(encoding="utf-8"), re.MULTILINE
        )
        assert said, "sdplip/__init__.py says no version"
        (self.copy / "__init__.py").write_text(f"{INIT}\n{said[0]}\n", encoding="utf-8")
        for name in MODULES:
            found = [source / name] if name.endswith(".py") else sorted((source / name).rglob("*.py"))
            for path in found:
                inner = path.relative_to(source)
                if not any(str(inner).startswith(out) for out in WITHOUT):
                    target = self.copy / inner
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(renamed(path.read_text(encoding="utf-8")), encoding="utf-8")
        build_data["force_include"] = {str(self.copy): "sdplip_verify"}

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        shutil.rmtree(self.copy, ignore_errors=True)


def renamed(text: str) -> str:
    """The module with imports from the copy."""
    return re.sub(r"^(\s*(?:from|import) )sdplip(?=[. ])", r"\1sdplip_verify", text, flags=re.MULTILINE)
