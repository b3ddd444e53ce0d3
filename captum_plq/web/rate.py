"""How many photos one client may send."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict
from collections.abc import Callable

from captum_plq.web.refusal import RefusedError

__all__ = ["RateLimit", "household"]

_CLIENTS = 4096


class RateLimit:
    """A token bucket for each client: so many a minute, and after a pause so many in a row.

    Of the clients, the last 4096 are remembered.

    Args:

        rate (int): Requests a minute.
        now (Callable): A clock, in seconds.
    """

    def __init__(self, rate: int, now: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._now = rate, now
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> None:
        """Count a request.

        Args:

            client (str): Its :func:`household`.

        Raises:
            RefusedError: 429 if there were too many.
        """
        now = self._now()
        left, since = self._buckets.pop(client, (float(self._rate), now))
        left = min(self._rate, left + (now - since) * self._rate / 60)
        allowed = left >= 1
        self._buckets[client] = (left - 1 if allowed else left, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        if not allowed:
            wait = math.ceil((1 - left) * 60 / self._rate)
            seconds = "1 second" if wait == 1 else f"{wait} seconds"
            raise RefusedError(
                429,
                f"More than {self._rate} photos a minute came from this address: try again in "
                f"{seconds}.",
                wait,
            )


def household(address: str) -> str:
    """Return what clients are told apart by.

    Args:

        address (str): Of a client.

    Returns:
        *str*: the address; of IPv6 its first 64 bits, the rest of which a household has.

    Examples::

        >>> household("2001:db8::1")
        '2001:db8::/64'
    """
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    return str(ipaddress.ip_network((found, 64), strict=False))
