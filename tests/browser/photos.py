"""Photos of a face as it is and with known things wrong, and files that are no photo."""

from io import BytesIO

import numpy as np
from PIL import Image
from skimage import data

from captum_plq.faces import detect_faces, headgear, square


def photos(folder):
    """Write them; gives name → path."""
    portrait = data.astronaut()
    landmarks = detect_faces(portrait)[0].landmarks
    images = {
        "good.png": portrait,
        "cap.png": headgear(portrait, landmarks, height=0.3).image,
        "mouth.png": square(portrait, landmarks, "mouth", color=(150, 190, 225)).image,
        "dark.png": (portrait * 0.15).astype(np.uint8),
        "no-face.png": np.full((300, 300, 3), 128, np.uint8),
    }
    for name, pixels in images.items():
        Image.fromarray(pixels).save(folder / name)
    whole = (folder / "good.png").read_bytes()
    for name, content in {
        "notes.png": b"Dear sir or madam,\n",
        "empty.png": b"",
        "half.png": whole[: len(whole) // 2],
        "long.jpg": b"\xff\xd8\xff" + b"x" * (11 * 2**20),
        "<img src=x onerror=alert(1)>.png": b"no image",
    }.items():
        (folder / name).write_bytes(content)
    return {path.name: path for path in folder.iterdir()}


def camera_film(portrait, path, frames=30):
    """Write what a camera sees that looks at a portrait: JPEG after JPEG, 640×480."""
    head = Image.open(portrait).convert("RGB").crop((60, 0, 380, 240)).resize((640, 480))
    file = BytesIO()
    head.save(file, "JPEG", quality=95, subsampling="4:2:0")
    path.write_bytes(file.getvalue() * frames)
    return path
