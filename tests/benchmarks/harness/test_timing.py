import gc

import torch

from benchmarks.harness import timing
from benchmarks.harness.timing import is_void, ratios, spread


def run(rounds, calls="abc", **options):
    """What ran, and what rounds gave of calls that last 1 s, 2 s, ... in turn; d fails later."""
    log = []

    def call(name):
        if name == "d" and len(log) >= 4:
            raise MemoryError("too big")
        log.append(name)

    def clock(own):
        assert not gc.isenabled()
        own()
        return float(len(log))

    found = timing.run_rounds({x: lambda x=x: call(x) for x in calls}, clock, rounds, **options)
    assert gc.isenabled()
    return "".join(log), found


def test_rounds_are_interleaved_rotate_and_turn_round():
    log, rounds = run(4)
    assert log == "abc" + "acb" + "cab" + "cba"
    assert rounds.order == [list("abc"), list("acb"), list("cab"), list("cba")]
    assert rounds.seconds["a"] == {0: 1.0, 1: 4.0, 2: 8.0, 3: 12.0}


def test_slow_ones_take_part_in_the_first_rounds_only_and_failures_drop_out():
    log, rounds = run(3, slow=["b"], slow_rounds=1)
    assert log == "abc" + "ac" + "ac"
    assert list(rounds.seconds["b"]) == [0]
    log, rounds = run(3, "abcd")
    assert log == "abcd" + "acb" + "cab"
    assert rounds.failures == {"d": "MemoryError: too big"}
    assert list(rounds.seconds["d"]) == [0]


def test_spread_and_ratios_within_rounds():
    expected = {"median": 3.0, "low": 2.0, "high": 4.0, "count": 5}
    assert spread([4.0, 1.0, 2.0, 3.0, 100.0]) == expected
    assert spread([]) is None
    # A machine that is ten times slower in one round does not move the ratios.
    assert ratios({0: 2.0, 1: 20.0, 7: 1.0}, {0: 1.0, 1: 10.0, 2: 5.0}) == {0: 2.0, 1: 2.0}


def test_void_beyond_three_percent_or_without_a_number():
    assert not any(is_void({0: 0.5, 1: median, 2: 2.0}) for median in (1.0, 1.029, 0.971))
    assert all(is_void({0: 0.5, 1: median, 2: 2.0}) for median in (1.031, 0.96))
    assert is_void({})
    assert is_void({0: float("nan")})


def test_floor_is_the_longer_of_computing_and_moving():
    rates = {"matmul": 100.0, "copy": 10.0}
    assert timing.floor_seconds(1000, 20, rates) == 10.0
    assert timing.floor_seconds(1000, 200, rates) == 20.0
    found = timing.measure_rates(
        torch.device("cpu"), torch.float32, side=64, copied=2**16, repeats=2
    )
    assert min(found.values()) > 0
