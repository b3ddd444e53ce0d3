"""What may be chosen, and by which names a server may be called."""

import pytest

from captum_plq.web import WebSettings, is_loopback


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "rate must be 1 or more"),
        ({"max_bytes": 10}, "max_bytes must be 1000 or more"),
        ({"max_pixels": 0}, "max_pixels must be"),
        ({"places": 0}, "places must be 1"),
        ({"patience": 0.0}, "patience must be positive"),
        ({"host": " "}, r"host must be an address such as 127\.0\.0\.1"),
        ({"proxied_as": "http://a.org"}, "a name such as photos.example.org"),
        ({"proxied_as": "a.org:80"}, "a name such as"),
    ],
)
def test_what_no_photo_could_pass_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        WebSettings(**settings)


def test_loopback_is_told_from_what_others_reach():
    assert all(map(is_loopback, ("127.0.0.1", "127.0.0.53", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "192.168.0.7", "example.org", "")))


def test_only_a_server_that_others_reach_without_a_proxy_is_called_by_any_name():
    assert WebSettings().names == {"127.0.0.1", "localhost", "::1"}
    assert WebSettings(proxied_as="Photos.example.org").names > {"photos.example.org"}
    assert WebSettings(host="0.0.0.0").names is None
    assert "a.org" in WebSettings(host="0.0.0.0", proxied_as="a.org").names
