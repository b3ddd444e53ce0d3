"""The fuzzer finds what is wrong and goes on, and finds nothing in a hundred cases."""

import pytest

from tests.fuzz.__main__ import TARGETS, main
from tests.fuzz.runner import target_of, tried


def test_every_kind_of_fault_is_found_and_none_ends_the_run(tmp_path):
    every = list(tried("tests.fuzz.faulty", 0, range(9), float("inf"), tmp_path, limit=1.0))
    assert [told.index for told in every] == list(range(9))
    assert [told.finding.partition(": ")[0] for told in every] == [
        "", "uncaught KeyError", "crash (SIGSEGV)", "more than 1 s", "over memory", "over memory",
        "wrong", "", "",
    ]  # fmt: skip
    assert [every[i].outcome for i in (0, 7, 8)] == ["read", "ValueError", "read"]
    assert len(list(tmp_path.iterdir())) == 4  # a crash and a hang are made again by their number


@pytest.mark.parametrize("name", TARGETS)
def test_a_case_is_made_again_by_its_number(name, tmp_path):
    target = target_of(TARGETS[name], tmp_path)
    again = target_of(TARGETS[name], tmp_path).numbered(5, 112)
    assert repr(target.numbered(5, 112)) == repr(again)
    assert repr(target.numbered(5, 113)) != repr(again)


def test_a_hundred_cases_of_each_target_find_nothing(tmp_path, capfd):
    assert main(["--cases", "120", "--findings", str(tmp_path)]) == 0, capfd.readouterr().out
