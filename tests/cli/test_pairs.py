"""``calibrate --pairs``: from photos and a list to sentences about a score."""

import json

import numpy as np
import pytest
from PIL import Image

from captum_plq.calibration import Calibration
from captum_plq.cli.pairs import read_mated_pairs

pytest.importorskip("scipy")


@pytest.fixture
def people(tmp_path):
    """Four shots of each of 13 people, and the list of all their pairs."""
    generator = np.random.default_rng(1)
    lines = ["fold,first,second,mated"]
    for i in range(13):
        colour = generator.integers(0, 256, 3)
        for k in range(4):
            pixels = colour + generator.normal(0, 10 + 25 * k, (32, 32, 3))
            path = tmp_path / "people" / f"p{i:02}" / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
        lines += [f"1,p{i:02}/0.png,p{i:02}/{k}.png,1" for k in (1, 2, 3)]
        lines.append(f"1,p{i:02}/0.png,p{(i + 1) % 13:02}/0.png,0")
    file = tmp_path / "pairs.csv"
    file.write_text("\n".join(lines))
    return tmp_path / "people", file


def test_from_pairs_to_sentences(run, people, network, small, tmp_path, capsys):
    folder, pairs = people
    file, out = tmp_path / "mine.npz", tmp_path / "out"
    (folder / "p00" / "1.png").write_text("no image")
    assert run("calibrate", folder, *small, "--pairs", pairs, "-o", file) == 0
    printed = capsys.readouterr().out
    assert "failures at FMR 0.001 (cosine below " in printed
    assert "measured on 38 mated pairs of 13 people: photos of people as they are, " in printed
    found = Calibration.load(file).thresholds
    assert (found.pairs, found.people) == (38, 13)
    assert found.failures[0].non_mated == 51 * 50 // 2 - 12 * 6 - 3
    photos = [folder / "p01" / f"{k}.png" for k in (0, 3)]
    assert run("explain", *photos, *small, "--calibration", file, "-o", out) == 0
    told = capsys.readouterr().out
    face = json.loads((out / "0.json").read_text("utf-8"))["faces"][0]
    assert f"  {found.in_words(face['quality'])}\n" in told
    assert face["meaning"]["words"] == found.in_words(face["quality"])
    assert [x["fmr"] for x in face["meaning"]["failures"]] == [1e-3, 1e-2]
    assert f"Such images: as in {found.measured_on()}" in told


def test_score_has_the_columns(run, people, network, small, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    folder, pairs = people
    file, out = tmp_path / "mine.npz", tmp_path / "result"
    assert run("calibrate", folder, *small, "--pairs", pairs, "-o", file) == 0
    options = [*small, "--workers", "0", "-o"]
    assert run("score", folder, *options, out, "--calibration", file) == 0
    assert run("score", folder, *options, tmp_path / "plain", "--calibration", "none") == 0
    found = Calibration.load(file).thresholds
    table = pq.read_table(out / "shards").to_pydict()
    quality = np.array(table["quality"])
    np.testing.assert_allclose(table["percentile"], found.percentile(quality), atol=1e-3)
    np.testing.assert_allclose(table["failure_rate"], found.failure_rate(quality)[0], atol=1e-5)
    plain = pq.read_table(tmp_path / "plain" / "shards").to_pydict()
    assert set(plain["percentile"]) == set(plain["failure_rate"]) == {None}


def test_too_few_pairs_cost_nothing_else(run, people, network, small, tmp_path, capsys):
    folder, pairs = people
    pairs.write_text("\n".join(pairs.read_text().splitlines()[:4]))
    file = tmp_path / "mine.npz"
    assert run("calibrate", folder, *small, "--pairs", pairs, "-o", file) == 1
    assert "no failure rates: " in capsys.readouterr().err
    assert Calibration.load(file).thresholds.failures == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("first,second\n", "needs the columns first, second, mated, but lacks mated"),
        ("first,second,mated\na/1.png,a/2.png,yes\n", "line 2: a pair needs two images"),
        ("first,second,mated\na/1.png,a/1.png,1\n", "a pair needs two images"),
        ("first,second,mated\na/1.png,b/2.png,1\n", "say otherwise"),
        ("first,second,mated\na/1.png,a/2.png,0\n", "say otherwise"),
        ("first,second,mated\na/1.png,b/2.png,0\n", "has no mated pairs"),
    ],
)
def test_lists_that_are_refused(tmp_path, text, words):
    file = tmp_path / "pairs.csv"
    file.write_text(text)
    with pytest.raises(ValueError, match=words):
        read_mated_pairs(file)
