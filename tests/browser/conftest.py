"""The page in a real Chromium, from a real server with the network of this package."""

import os
import shutil
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import pytest

playwright_api = pytest.importorskip(
    "playwright.sync_api", reason="needs Playwright: make test-browser"
)
for module in ("fastapi", "uvicorn", "cv2", "dlib", "skimage"):
    pytest.importorskip(module, reason="needs the extra [web], and scikit-image")

from captum_plq.web import WebSettings, create_app, load_assessor  # noqa: E402
from tests.browser.photos import camera_film, photos  # noqa: E402
from tests.support.serving import running  # noqa: E402

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LARGEST = 200_000  # bytes of a screenshot
PATIENCE = 60_000  # ms, of a machine that does much else
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}
NOTED = (  # by Chromium itself: of answers that are errors, and of addresses without https
    "Failed to load resource: the server responded with a status of 4",
    "Failed to load resource: net::ERR_FAILED",
    "The Cross-Origin-Opener-Policy header has been ignored",
)
SETTINGS = WebSettings(rate=100_000)

playwright_api.expect.set_options(timeout=PATIENCE)


def pytest_addoption(parser):
    parser.addoption("--figures", help="Folder in which the screenshots are put, too.")


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/browser" in item.nodeid:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Photos, and files that are none: name → path."""
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="session")
def chromium(files, tmp_path_factory):
    """Chromium, with a camera that shows the portrait."""
    found = next(filter(None, map(shutil.which, [os.environ.get("CHROMIUM", ""), *NAMES])), None)
    if found is None:
        pytest.skip("needs Chromium: apt-get install chromium, or name its file in CHROMIUM")
    film = camera_film(files["good.png"], tmp_path_factory.mktemp("film") / "face.mjpeg")
    arguments = [
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        "--host-resolver-rules=MAP photos.example 127.0.0.1",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with playwright_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def assessor():
    return load_assessor(SETTINGS)


@pytest.fixture(scope="session")
def port(assessor):
    with running(create_app(SETTINGS, assessor)) as found:
        yield found


class Visit:
    """A page, and what its browser did and complained of."""

    def __init__(self, context, url):
        self.url, self.requests, self.complaints = url, [], []
        self.context, self.page = context, context.new_page()
        context.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", self._note)
        self.page.goto(url)

    def _note(self, message):
        if message.type in ("error", "warning") and not message.text.startswith(NOTED):
            self.complaints.append(message.text)

    def send(self, path):
        """Choose a file, as one does with the button, and wait for what is said of it."""
        self.page.set_input_files("#file", path)
        self.settle()

    def settle(self):
        self.page.wait_for_selector("body:not(.busy)")

    def check(self):
        """Nothing was complained of, and nothing was asked of another server."""
        assert self.complaints == []
        places = {urlsplit(url)[:2] for url in self.requests if not url.startswith("data:")}
        assert places == {urlsplit(self.url)[:2]} or (self.url.startswith("file:") and not places)


@pytest.fixture
def visit(chromium, port):
    """Opens a page of a size and colour scheme, at the server's address or another."""
    visits = []

    def opened(url=None, size="desktop", scheme="light", **options):
        width, height = SIZES[size]
        context = chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme=scheme,
            reduced_motion="reduce",
            **options,
        )
        context.set_default_timeout(PATIENCE)
        visits.append(Visit(context, url or f"http://127.0.0.1:{port}/"))
        return visits[-1]

    yield opened
    for one in visits:
        one.check()
        one.context.close()


@pytest.fixture
def figures(request, tmp_path):
    """Takes a screenshot; keeps it where ``--figures`` says."""
    from PIL import Image

    kept = request.config.getoption("--figures", default=None)

    def taken(page, name):
        content = page.screenshot()
        with Image.open(BytesIO(content)) as image:
            shot = image.convert("RGB")
        file = (tmp_path if kept is None else Path(kept)) / f"{name}.png"
        for bits in (8, 6, 5):  # of each channel: as many as there is room for
            coarse = 256 - 2 ** (8 - bits)
            shot.point([v & coarse | v >> bits for v in range(256)] * 3).save(file, optimize=True)
            if file.stat().st_size < LARGEST:
                return
        raise AssertionError(f"{name} is too large")

    return taken
