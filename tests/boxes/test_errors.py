from smallobj.boxes import InputError


def test_the_line_names_file_item_field_and_value() -> None:
    error = InputError("outside 0..1", file="runs/a.json", item="7.jpg", field="score", value=5)
    assert str(error) == "runs/a.json: item 7.jpg: field score: outside 0..1, got 5"


def test_the_line_stays_one_short_line() -> None:
    error = InputError("unknown class", item="a\nb.jpg", value="x" * 1000)
    assert "\n" not in str(error)
    assert len(str(error)) < 200
