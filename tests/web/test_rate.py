"""The limit on photos a minute, by a clock that stands still until it is moved."""

import pytest

from captum_plq.web.rate import RateLimit, household
from captum_plq.web.refusal import RefusedError


@pytest.fixture
def clock():
    return [0.0]


@pytest.fixture
def limit(clock):
    return RateLimit(6, now=lambda: clock[0])


def test_as_many_as_the_rate_may_come_in_a_row_and_then_one_every_ten_seconds(limit, clock):
    for _ in range(6):
        limit.take("1.2.3.4")
    words = "More than 6 photos a minute came from this address: try again in 10 seconds."
    with pytest.raises(RefusedError, match=words) as refused:
        limit.take("1.2.3.4")
    assert (refused.value.status, refused.value.retry_after) == (429, 10)
    clock[0] = 9.5
    with pytest.raises(RefusedError, match=r"in 1 second\."):
        limit.take("1.2.3.4")
    clock[0] = 10.01
    limit.take("1.2.3.4")
    with pytest.raises(RefusedError):
        limit.take("1.2.3.4")


def test_one_client_does_not_use_up_the_share_of_another(limit):
    for _ in range(6):
        limit.take("1.2.3.4")
    limit.take("1.2.3.5")


def test_ipv6_addresses_of_one_household_are_one_client():
    assert household("2001:db8::ffff%eth0") == household("2001:db8::1") == "2001:db8::/64"
    assert household("2001:db8:0:1::1") != household("2001:db8::1")
    assert (household("1.2.3.4"), household(""), household("x")) == ("1.2.3.4", "", "x")


def test_what_is_remembered_of_clients_is_bounded(limit):
    for i in range(10_000):
        limit.take(f"10.0.{i // 256}.{i % 256}")
    assert len(limit._buckets) == 4096
