import gc

import torch

from benchmarks.harness.roofline import Rates, floor_seconds, measure_rates
from benchmarks.harness.timing import Spread, is_void, ratios, rotated, run_rounds


def recorder(log):
    """Calls that log their name, and a clock that gives 1 s, 2 s, ... in turn."""
    calls = {name: (lambda name=name: log.append(name)) for name in "abc"}

    def clock(call):
        assert not gc.isenabled()
        call()
        return float(len(log))

    return calls, clock


def test_rounds_are_interleaved_rotate_and_turn_round():
    log = []
    calls, clock = recorder(log)
    rounds = run_rounds(calls, clock, rounds=4)
    assert "".join(log) == "abc" + "acb" + "cab" + "cba"
    assert rounds.order == [list("abc"), list("acb"), list("cab"), list("cba")]
    assert rounds.seconds["a"] == {0: 1.0, 1: 4.0, 2: 8.0, 3: 12.0}
    assert gc.isenabled()


def test_slow_ones_take_part_in_the_first_rounds_only():
    log = []
    calls, clock = recorder(log)
    rounds = run_rounds(calls, clock, rounds=3, slow=["b"], slow_rounds=1)
    assert "".join(log) == "abc" + "ac" + "ac"
    assert list(rounds.seconds["b"]) == [0]


def test_a_failure_drops_out_with_its_reason():
    log = []
    calls, clock = recorder(log)

    def fail():
        if len(log) >= 3:
            raise MemoryError("too big")
        log.append("b")

    rounds = run_rounds({**calls, "b": fail}, clock, rounds=3)
    assert "".join(log) == "abc" + "ac" + "ca"
    assert rounds.failures == {"b": "MemoryError: too big"}
    assert list(rounds.seconds["b"]) == [0]


def test_spread_and_rotation():
    assert Spread.of([4.0, 1.0, 2.0, 3.0, 100.0]) == Spread(3.0, 2.0, 4.0, 5)
    assert Spread.of([1.0, 2.0]) == Spread(1.5, 1.25, 1.75, 2)
    assert Spread.of([]) is None
    assert rotated("abc", 4) == ["b", "c", "a"]
    assert rotated([], 1) == []


def test_ratios_are_taken_within_rounds():
    """A machine that is ten times slower in one round does not move the ratios."""
    assert ratios({0: 2.0, 1: 20.0, 7: 1.0}, {0: 1.0, 1: 10.0, 2: 5.0}) == {0: 2.0, 1: 2.0}


def test_void_beyond_three_percent_or_without_a_number():
    within, beyond = (1.0, 1.029, 0.971), (1.031, 0.96, float("nan"))
    assert not any(is_void(Spread(median, 0.5, 2.0, 9)) for median in within)
    assert all(is_void(Spread(median, 0.5, 2.0, 9)) for median in beyond)
    assert is_void(None)


def test_floor_is_the_longer_of_computing_and_moving():
    rates = Rates(matmul=100.0, copy=10.0)
    assert floor_seconds(1000, 20, rates) == 10.0
    assert floor_seconds(1000, 200, rates) == 20.0
    found = measure_rates(torch.device("cpu"), torch.float32, side=64, copied=2**16, repeats=2)
    assert found.matmul > 0
    assert found.copy > 0
