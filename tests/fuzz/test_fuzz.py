"""The fuzzer finds what is wrong and goes on, and finds nothing in a hundred cases."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import TARGETS
from tests.fuzz.runner import run
from tests.fuzz.worker import target_of

ROOT = Path(__file__).resolve().parents[2]


def test_every_kind_of_fault_is_found_and_none_ends_the_run(tmp_path):
    tallies = run(
        {"faulty": "tests.fuzz.faulty"}, seed=0, findings=tmp_path, cases=9, limit=1.0, jobs=1
    )
    tally = tallies["faulty"]
    assert tally.cases == 9
    assert tally.outcomes["read"] == 2
    assert tally.outcomes["ValueError"] == 1
    assert tally.count("uncaught KeyError") == 1
    assert tally.count("crash (SIGSEGV)") == 1
    assert tally.count("more than 1 s") == 1
    assert tally.count("over memory") == 2
    assert tally.count("wrong: a value") == 1
    assert len(list(tmp_path.iterdir())) == 4  # a crash and a hang are made again by their number


@pytest.mark.parametrize("name", TARGETS)
def test_a_case_is_made_again_by_its_number(name, tmp_path):
    made = {}

    def keep(index, case):
        path = tmp_path / f"{len(made)}-{index}{case.suffix}"
        target.save(case, path)
        made[index] = (*made.get(index, ()), (case.kind, path.read_bytes()))

    target = target_of(TARGETS[name], tmp_path)
    target.cases(5, 110, 4, keep)
    target = target_of(TARGETS[name], tmp_path)
    target.cases(5, 112, 1, keep)
    assert sorted(made) == [110, 111, 112, 113]
    first, again = made[112]
    assert first[0] == again[0]
    if name in ("images", "weights", "calibration"):  # torch.save puts the file's name in it
        assert first[1] == again[1]


def test_a_hundred_cases_of_each_target_find_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", "--cases", "120", "--findings", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
