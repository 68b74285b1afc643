"""A certified run as a repository: in a folder, and by a hub that is one."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sdplip.errors import InvalidCertificate, InvalidRun, MissingDependency
from sdplip.hub import from_hub, push_to_hub, save_to_folder
from sdplip.training.run import load_run
from tests.commands import invoke
from tests.test_cli_certify import made  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def published(made, tmp_path_factory):  # noqa: F811
    """A folder with a run that is certified on its whole test split, and a certificate of two images."""
    folder = tmp_path_factory.mktemp("published")
    shutil.copytree(made, folder / "RUN")
    assert invoke("certify", folder / "RUN")[0] == 0
    assert invoke("certify", folder / "RUN", "--limit", 2, "--certificate", folder / "proof.json")[0] == 0
    return folder


@pytest.fixture
def certified(published, tmp_path, monkeypatch):
    """A copy of these, in the current folder."""
    shutil.copytree(published, tmp_path / "own")
    monkeypatch.chdir(tmp_path / "own")
    return tmp_path / "own" / "RUN"


def test_a_folder_that_gives_the_network_back(certified):
    folder = save_to_folder("RUN", "out", certificate="proof.json", license="apache-2.0")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(from_hub(folder)(x), load_run(certified)[1](x))
    card = (folder / "README.md").read_text()
    document = json.loads((certified / "certification.json").read_text())
    assert card.startswith("---\nlicense: apache-2.0\n") and f"({document['n']} images)" in card
    assert all(f"| {eps} |" in card for eps in document["certified"])
    (command,) = (line for line in card.splitlines() if line.startswith("sdplip-verify"))
    files = [str(folder / name) for name in command.split()[1:]]
    assert invoke("verify", *files)[0] == 0
    with pytest.raises(InvalidRun, match="not empty"):
        save_to_folder("RUN", "out")


def test_what_is_not_proven_is_not_handed_out(certified):
    document = json.loads(Path("proof.json").read_text())
    radius = document["claims"][0]["claim"]["radius"]
    radius[max(range(len(radius)), key=radius.__getitem__)] *= 2
    Path("proof.json").write_text(json.dumps(document))
    with pytest.raises(InvalidCertificate, match="not proven again"):
        save_to_folder("RUN", "out", certificate="proof.json")
    (certified / "certification.json").unlink()
    with pytest.raises(InvalidRun, match="sdplip certify"):
        save_to_folder("RUN", "other")


def test_push_and_pull(certified, monkeypatch, tmp_path):
    """A hub that keeps repositories in a folder."""

    class Api:
        def create_repo(self, name, *, private, exist_ok):
            assert private and exist_ok
            (tmp_path / "hub" / name).mkdir(parents=True)

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id, dirs_exist_ok=True)
            return f"hub/{repo_id}: {commit_message}"

    def snapshot_download(*, repo_id, revision):
        assert revision is None
        return str(tmp_path / "hub" / repo_id)

    fake = SimpleNamespace(HfApi=Api, snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    assert push_to_hub("RUN", "me/net", private=True) == "hub/me/net: Upload by sdplip"
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(from_hub("me/net")(x), load_run(certified)[1](x))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingDependency, match=r"sdplip\[hub\]"):
        from_hub("me/net")
