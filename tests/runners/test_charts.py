from PIL import Image

from runners.report import charts

CURVES = {"bits by layer": [0.1, 0.5, None], "accuracy by round": [0.2, 0.3]}
CAPTIONS = {"bits by layer": ["conv1", "conv2", "fc1"], "reconstruction": ["original"]}


def test_named_curves_are_drawn_the_same_each_time(tmp_path):
    media = charts.save(CURVES, CAPTIONS, tmp_path, "abcdef")
    assert media == {"curves": "media/ab/abcdef-curves.png"}
    first = (tmp_path / media["curves"]).read_bytes()
    with Image.open(tmp_path / media["curves"]) as picture:
        assert picture.width > 100
    charts.save(CURVES, CAPTIONS, tmp_path, "abcdef")
    assert (tmp_path / media["curves"]).read_bytes() == first
    assert [path.name for path in (tmp_path / "media" / "ab").iterdir()] == ["abcdef-curves.png"]


def test_curves_without_names_leave_no_file(tmp_path):
    assert charts.save({"accuracy by round": [0.1]}, {}, tmp_path, "abcdef") == {}
    assert not list(tmp_path.iterdir())
