"""Names, origins and headers."""

import pytest

from captum_plq.web.guard import problem_of_caller

NAMES = frozenset({"127.0.0.1", "localhost", "::1"})


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:1", "[::1]:8000"])
def test_own_names_are_answered(host):
    assert problem_of_caller("GET", {"host": host}, NAMES) is None


@pytest.mark.parametrize(
    "host",
    ["evil.org", "evil.org:8000", "", "127.0.0.1.evil.org", "localhost@evil.org", "[::1", "[x]"],
)
def test_a_foreign_name_that_leads_here_is_refused(host):
    assert "not called by that name" in problem_of_caller("GET", {"host": host}, NAMES)
    assert problem_of_caller("GET", {"host": host}, None) is None


HERE = {"host": "127.0.0.1:8000"}


@pytest.mark.parametrize(
    "more",
    [
        {"origin": "http://evil.org"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://localhost:8000"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://[x"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_posts_of_foreign_pages_are_refused(more):
    assert "own page only" in problem_of_caller("POST", HERE | more, NAMES)
    assert problem_of_caller("GET", HERE | more, NAMES) is None


@pytest.mark.parametrize(
    "more",
    [{}, {"origin": "http://127.0.0.1:8000"}, {"sec-fetch-site": "same-origin"}],
)
def test_posts_of_the_own_page_and_of_programs_are_answered(more):
    assert problem_of_caller("POST", HERE | more, NAMES) is None


def test_the_server_asks_before_it_reads(serve, post):
    client = serve()
    assert post(client, b"x").status_code == 200
    refused = post(client, b"x", headers={"Origin": "http://evil.org"})
    assert (refused.status_code, list(refused.json())) == (403, ["error"])
    assert client.get("/", headers={"Host": "evil.org"}).status_code == 403
    assert client.get("/static/index.html", headers={"Host": "evil.org"}).status_code == 403


def test_behind_a_proxy_its_name_is_answered(serve, post):
    client = serve(proxied_as="photos.example.org")
    name = {"Host": "photos.example.org", "Origin": "https://photos.example.org"}
    assert post(client, b"x", headers=name).status_code == 200


def test_every_answer_has_the_headers(serve, post):
    client = serve()
    answers = {
        "/": client.get("/"),
        "/api/about": client.get("/api/about"),
        "/nothing": client.get("/nothing"),
        "/api/photo": post(client, b"x"),
        "refused": client.get("/", headers={"Host": "evil.org"}),
    }
    for name, answer in answers.items():
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy, name
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        kept = "no-store" if name.startswith("/api/") else "no-cache"
        assert answer.headers["cache-control"] == kept
