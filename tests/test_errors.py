"""Warnings that are muted in one thread."""

import threading
import warnings

import pytest

from captum_plq.errors import PixelScaleWarning, UninformativeWarning, muted, warn_caller


def test_only_what_is_muted_is_not_warned_of_and_only_in_this_thread():
    def warn():
        warn_caller("dark", PixelScaleWarning)

    filters = list(warnings.filters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with muted(PixelScaleWarning):
            warn()
            with pytest.raises(UninformativeWarning):
                warn_caller("blank", UninformativeWarning)
            with muted(UninformativeWarning):
                warn()
                warn_caller("blank", UninformativeWarning)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                other = threading.Thread(target=warn)
                other.start()
                other.join()
            assert [w.category for w in caught] == [PixelScaleWarning]
        with pytest.raises(PixelScaleWarning):
            warn()
    assert warnings.filters == filters
