"""Tables, and how far a run has come."""

from captum_plq.cli.terminal import Progress, table


def test_columns_are_aligned_and_the_last_is_not_padded():
    lines = table(["Q", "image"], [["0.71", "a.jpg"], ["0.6", "a long name.jpg"]], right=[0])
    assert lines == ["   Q  image", "0.71  a.jpg", " 0.6  a long name.jpg"]


def test_time_left_is_told_once_the_rate_is_known():
    clock = iter([0.0, 30.0, 60.0, 90.0]).__next__
    progress = Progress(120, settled=2, now=clock)
    found = []
    for done in (1, 2, 40, 120):
        progress.done = done
        found.append(progress.prefix())
    assert found == ["[1/120] ", "[2/120, 30 min left] ", "[40/120, 2 min left] ", "[120/120] "]
    assert Progress(1).prefix() == ""
