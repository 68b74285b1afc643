"""Trained networks as repositories of the Hugging Face hub: weights, run file, certified numbers, and the certificate that proves them."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdplip.arithmetic.decimals import above, below, percent_below
from sdplip.errors import InvalidCertificate, InvalidRun, MissingDependency, UnreadableFile
from sdplip.shapes import said

if TYPE_CHECKING:
    from torch import nn

CARD = "README.md"
CERTIFICATE, NETWORK, IMAGES = "certificate.json", "certificate.network.safetensors", "certificate.images.npz"
"""Names in the repository, as `sdplip certify RUN --certificate certificate.json` writes them."""


NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
"""Of a repository of the hub."""

SCOPES = {"computed": "of the network as it computes", "exact": "of the network in exact arithmetic"}


def save_to_folder(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    certificate: str | os.PathLike[str] | None = None,
    license: str = "mit",
) -> Path:
    """The repository of a certified run as a folder: what `push_to_hub` uploads.

    Args:
        run: a folder in which `sdplip train` and `sdplip certify` have been.
        certificate: of `sdplip certify RUN --certificate FILE.json`; the two files beside it go along, and it is proven again here.
        license: of the weights, as the hub calls it.

    Raises:
        InvalidRun: no run, or not certified; the folder holds something.
        InvalidCertificate: a claim of the certificate is not proven again.
    """
    from sdplip.robustness.run import RESULT, SAMPLES, read_run
    from sdplip.training.run import CONFIG, MODEL, load_run

    run, folder = _path("run", run), _path("folder", folder)
    load_run(run)
    try:
        read_run(run)
    except UnreadableFile as error:
        raise InvalidRun(str(error)) from None
    if folder.exists() and not folder.is_dir():
        raise InvalidRun(f"`{folder}` is a file. Choose a new folder.")
    if folder.exists() and any(folder.iterdir()):
        raise InvalidRun(f"`{folder}` is not empty. Choose a new folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for name in (CONFIG, MODEL, RESULT, SAMPLES):
        shutil.copyfile(run / name, folder / name)
    proven = None if certificate is None else _copy_proof(Path(certificate), folder)
    document = json.loads((run / RESULT).read_text(encoding="utf-8"))
    (folder / CARD).write_text(card(document, proven, license=license), encoding="utf-8")
    return folder


def push_to_hub(
    run: str | os.PathLike[str],
    repository: str,
    *,
    certificate: str | os.PathLike[str] | None = None,
    license: str = "mit",
    private: bool = False,
) -> str:
    """Upload a certified run; the address of the commit. Who may write is what `huggingface_hub` knows.

    Raises:
        MissingDependency: the extra `hub` is not installed.
        InvalidRun: `repository` is no name; and, as InvalidCertificate, as `save_to_folder`.
    """
    run = _path("run", run)
    if not isinstance(repository, str) or not NAME.fullmatch(repository):
        raise InvalidRun(f"`repository` must be OWNER/NAME of the hub, but is {said(repository)}.")
    hub = _package()
    with tempfile.TemporaryDirectory() as place:
        folder = save_to_folder(run, Path(place, "repository"), certificate=certificate, license=license)
        api = hub.HfApi()
        api.create_repo(repository, private=private, exist_ok=True)
        return str(
            api.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Upload by sdplip")
        )


def from_hub(repository: str | os.PathLike[str], *, revision: str | None = None) -> "nn.Module":
    """The network of a repository, or of a folder with the same files, in eval mode. Nothing is unpickled.

    Raises:
        MissingDependency: not a folder, and the extra `hub` is not installed.
        InvalidRun: the repository holds no run.
    """
    from sdplip.training.run import load_run

    folder = _path("repository", repository)
    if not folder.is_dir():
        folder = Path(_package().snapshot_download(repo_id=str(repository), revision=revision))
    return load_run(folder)[1]


def card(document: dict[str, Any], proven: int | None, *, license: str) -> str:
    """The model card: certified numbers, rounded so that what one reads is proven, and how to prove them again."""
    rows = "\n".join(f"| {eps} | {percent_below(share)} |" for eps, share in document["certified"].items())
    proof = (
        "Prove it yourself: `sdplip certify .` in a copy of this repository."
        if proven is None
        else f"The certificate holds {proven} claim{'s' * (proven > 1)}; they need NumPy alone to be proven again:\n\n"
        f"```sh\nsdplip-verify {CERTIFICATE} {NETWORK} {IMAGES}\n```"
    )
    return f"""---
license: {license}
library_name: sdplip
tags: [lipschitz, certified-robustness, image-classification]
---

# A network whose robustness is proven

On the {document["split"]} split of {document["data"]} ({document["n"]} images), {SCOPES[document["scope"]]}, in {document["precision"]}; radii are
l2 distances of images in [0, 1].

| radius | certified accuracy |
|---|---|
| 0 (clean) | {percent_below(document["clean"])} |
{rows}

Mean certified radius {below(document["mean_radius"], 5)}; Lipschitz constant of the network at most {above(document["bound"], 8)}.
A prediction counts where it is right and proven to stay so at every image within the radius. `certification.json` and `radii.csv` have all numbers.

{proof}

```python
from sdplip.hub import from_hub

model = from_hub("OWNER/NAME")
```
"""


def _copy_proof(certificate: Path, folder: Path) -> int:
    """The certificate with its two files, proven again; the number of its claims."""
    from sdplip.robustness.graph_accuracy import images_file, network_file
    from sdplip.verifier.verify import verify

    for source, name in (
        (certificate, CERTIFICATE),
        (network_file(certificate), NETWORK),
        (images_file(certificate), IMAGES),
    ):
        shutil.copyfile(source, folder / name)
    found = verify(folder / CERTIFICATE, folder / NETWORK, folder / IMAGES)
    if not found.proven:
        raise InvalidCertificate(
            f"`{certificate}` is not proven again, so it is not handed out. Run `sdplip verify` for the reasons."
        )
    return len(found.claims)


def _path(name: str, value: str | os.PathLike[str]) -> Path:
    try:
        return Path(value)
    except TypeError:
        raise InvalidRun(f"`{name}` must be a path, but is a `{type(value).__name__}`.") from None


def _package() -> Any:
    try:
        import huggingface_hub  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise MissingDependency(
            'The hub needs the package huggingface_hub: pip install "sdplip[hub]".'
        ) from None
    return huggingface_hub
