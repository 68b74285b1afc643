"""Forged certificates: none is accepted that says what is not so, hides what it leaves out, or brings the verifier down.

`benchmarks/forge.py` tries many more, within limits of time and memory.
"""

import collections
from pathlib import Path

import pytest

from tests.forge.honest import Case, every_case
from tests.forge.trial import OUTCOMES, file_trials, judged, trials

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("forge")


@pytest.fixture(scope="module")
def cases(folder) -> list[Case]:
    return every_case(folder)


def test_honest_certificates_are_accepted_and_true(cases, folder):
    for case in cases:
        found = judged(case, case.text.encode(), folder)
        assert found.outcome == "accepted", (case.kind, found)


@pytest.mark.parametrize("seed", range(4))
def test_mutants(cases, folder, seed):
    outcomes = collections.Counter[str]()
    for case, how, found in trials(cases, 250, seed, folder):
        assert not found.bad, (case.kind, how, found)
        outcomes[found.outcome] += 1
    assert min(outcomes[name] for name in OUTCOMES[:3]) > 25, "a test in which all is refused shows nothing"


def test_mutants_of_files_with_their_certificates(cases, folder):
    outcomes = collections.Counter[str]()
    for case, how, found in file_trials(cases, 300, 0, folder):
        assert not found.bad, (case.kind, how, found)
        outcomes[found.outcome] += 1
    assert min(outcomes[name] for name in OUTCOMES[:3]) > 20, "a test in which all is refused shows nothing"
