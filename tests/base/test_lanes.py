"""Work done side by side in threads, with results in order."""

import threading
from contextlib import closing

import pytest
import torch

from captum_plq._base.lanes import in_lanes, lanes_on


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("lanes", [1, 3])
def test_results_are_in_the_order_of_the_items(lanes):
    assert list(in_lanes(lambda x: -x, range(20), lanes)) == [-x for x in range(20)]


def test_lanes_work_at_once():
    both = threading.Barrier(2, timeout=60)

    def work(item):
        both.wait()
        return item

    assert list(in_lanes(work, range(4), 2)) == [0, 1, 2, 3]


def test_threads_are_divided_among_lanes_and_as_many_as_before_afterwards(four_threads):
    def ask(*_):
        return torch.get_num_threads()

    found = []
    with closing(in_lanes(ask, range(3), 2)) as lanes:
        found.append(next(lanes))
        other = threading.Thread(target=lambda: found.append(ask()))
        other.start()
        other.join()
        found += [ask(), *lanes]
    assert found == [2, 4, 4, 2, 2]
    assert lanes_on(torch.device("cpu")) == 4
    assert lanes_on(torch.device("meta")) == 1


def test_errors_come_after_the_results_before():
    def items():
        yield from (1, 2)
        raise RuntimeError("the items end")

    def collect(results):
        for result in results:
            found.append(result)

    for lanes in (1, 2):
        found = []
        with pytest.raises(RuntimeError, match="the items end"):
            collect(in_lanes(lambda x: x, items(), lanes))
        assert found == [1, 2]
        with pytest.raises(ZeroDivisionError):
            collect(in_lanes(lambda x: 1 / x, (1, 0, 1), lanes))
        assert found == [1, 2, 1]


def test_what_has_not_begun_when_it_is_left_is_not_done():
    done, go_on = [], threading.Event()

    def work(item):
        if item:
            go_on.wait(60)
        done.append(item)
        return item

    lanes = in_lanes(work, iter(range(100)), 2)
    assert next(lanes) == 0
    threading.Timer(0.2, go_on.set).start()
    lanes.close()
    assert len(done) <= 4
