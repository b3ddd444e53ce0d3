"""One server with the network of this package, and photos for it."""

from io import BytesIO

import numpy as np
import pytest

for module in ("fastapi", "httpx2", "cv2", "dlib", "skimage"):
    pytest.importorskip(module, reason="needs the extra [web], and scikit-image")

from fastapi.testclient import TestClient  # noqa: E402
from PIL import Image  # noqa: E402
from skimage import data  # noqa: E402

from captum_plq.web import WebSettings, create_app, load_assessor  # noqa: E402

URL = "http://127.0.0.1:8000"
SETTINGS = WebSettings(rate=100_000, max_bytes=4 * 2**20, max_pixels=4_000_000)


def encoded(image, kind="JPEG", **options):
    """The bytes of an image file."""
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="session")
def portrait():
    """(300, 300, 3): head and shoulders."""
    return np.ascontiguousarray(data.astronaut()[:300, 80:380])


@pytest.fixture(scope="session")
def good(portrait):
    return encoded(Image.fromarray(portrait), quality=95)


@pytest.fixture(scope="session")
def assessor():
    return load_assessor(SETTINGS)


@pytest.fixture(scope="session")
def client(assessor):
    return TestClient(create_app(SETTINGS, assessor), base_url=URL)


class Stub:
    """An assessor that computes nothing."""

    def about(self):
        return {"network": "stub"}

    def photo(self, data):
        return {"length": len(data), "warnings": []}

    def what_if(self, data, region):
        return {"length": len(data), "region": region}


@pytest.fixture
def serve():
    """Makes a client of a server of given settings, with an assessor that computes nothing."""

    def make(assessor=None, **settings):
        app = create_app(WebSettings(**settings), assessor or Stub())
        return TestClient(app, base_url=URL)

    return make


@pytest.fixture
def post():
    """Posts a file, and what else is in a form."""

    def send(client, photo, name="photo.jpg", path="/api/photo", **options):
        return client.post(path, files={"photo": (name, photo)}, **options)

    return send
