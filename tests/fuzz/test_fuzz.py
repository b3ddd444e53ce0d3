"""The fuzzer finds what is wrong and goes on, and finds nothing in a hundred cases."""

import pytest

from tests.fuzz.__main__ import TARGETS, main
from tests.fuzz.runner import run, target_of


def test_every_kind_of_fault_is_found_and_none_ends_the_run(tmp_path):
    targets = {"faulty": "tests.fuzz.faulty"}
    tally = run(targets, seed=0, findings=tmp_path, cases=9, limit=1.0, jobs=1)["faulty"]
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
def test_a_case_is_made_again_by_its_number_and_read_from_its_file(name, tmp_path):
    made = [target_of(TARGETS[name], tmp_path).numbered(5, 112) for _ in range(2)]
    target = target_of(TARGETS[name], tmp_path)
    other = target.numbered(5, 113)
    path = tmp_path / f"case{made[0].suffix}"
    target.save(made[0], path)
    read = target.read(path)
    assert repr(read.content) == repr(made[0].content) == repr(made[1].content)
    assert made[0].kind == made[1].kind
    assert repr(other.content) != repr(made[0].content)


def test_a_hundred_cases_of_each_target_find_nothing(tmp_path, capfd):
    code = main(["--cases", "120", "--findings", str(tmp_path)])
    assert code == 0, capfd.readouterr().out
