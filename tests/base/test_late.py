"""Numbers that a call reads once, at its end: in their order, whatever happens on the way."""

import warnings

import pytest
import torch

from captum_plq._base import late
from captum_plq.errors import warn_caller


@pytest.fixture
def reads(monkeypatch):
    counted, read = [], late._read
    monkeypatch.setattr(late, "_read", lambda parts: counted.append(len(parts)) or read(parts))
    return counted


def raising(error):
    def judge(numbers):
        raise error(numbers)

    return judge


def test_all_numbers_are_read_at_the_end_and_judged_in_their_order(reads):
    told = []

    @late.reads_once
    def inner():
        late.look([torch.tensor([True, False])], told.append)

    @late.reads_once
    def outer():
        late.look([torch.tensor(1.5), torch.ones(2, dtype=torch.float64)], told.append)
        inner()
        late.look([torch.tensor(7.0)], told.append)
        return len(reads), list(told)

    assert outer() == (0, [])
    assert told == [[1.5, 1, 1], [1, 0], [7]]
    assert reads == [3]


def test_outside_of_such_calls_every_number_is_read_at_once(reads):
    with pytest.raises(KeyError):
        late.look([torch.tensor(1.0)], raising(KeyError))
    forgotten = []
    assert not late.holds([torch.tensor(1.0)], lambda x: x[0] > 1, lambda: forgotten.append(1))
    assert late.holds([torch.tensor(2.0)], lambda x: x[0] > 1, lambda: forgotten.append(2))
    assert forgotten == [1]
    assert len(reads) == 3


def test_what_was_waiting_may_be_the_reason_of_an_exception():
    @late.reads_once
    def call(judge):
        late.look([torch.tensor(1.0)], judge)
        raise ZeroDivisionError

    with pytest.raises(KeyError):
        call(raising(KeyError))
    with pytest.raises(ZeroDivisionError):
        call(lambda numbers: None)
    assert late._current.get() is None


def test_a_call_that_trusted_wrongly_is_run_again_and_reads_at_once(reads):
    kept, runs, judged = [3.0], [], []

    @late.reads_once
    def call(now):
        runs.append(now)
        late.look([torch.tensor(now)], judged.append)
        if not kept or not late.holds(
            [torch.tensor(now)], lambda numbers: numbers == kept, kept.clear
        ):
            kept[:] = [now]
        return kept[0]

    assert [call(3.0), call(4.0), call(4.0)] == [3.0, 4.0, 4.0]
    assert runs == [3.0, 4.0, 4.0, 4.0]
    assert judged == [[3], [4], [4]]


def test_reading_at_once_within_a_call(reads):
    told = []

    @late.reads_once
    def call():
        late.look([torch.tensor(1.0)], told.append)
        with late.at_once():
            assert told == [[1]]
            late.look([torch.tensor(2.0)], told.append)
            assert told == [[1], [2]]
        late.look([torch.tensor(3.0)], told.append)
        assert told == [[1], [2]]
        with late.apart(), pytest.raises(KeyError):
            late.look([torch.tensor(4.0)], raising(KeyError))

    call()
    assert told == [[1], [2], [3]]


def test_a_thing_is_new_once_in_a_call():
    @late.reads_once
    def call():
        return late.is_new("a"), late.is_new("a"), late.is_new("b")

    assert call() == call() == (True, False, True)
    assert late.is_new("a")
    assert late.is_new("a")


def test_a_warning_is_the_callers():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        late.reads_once(lambda: late.look([torch.ones(1)], lambda _: warn_caller("so")))()
    assert [(str(w.message), w.filename) for w in caught] == [("so", __file__)]
