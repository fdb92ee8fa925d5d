class InputError(Exception):
    """What a user gave cannot be used: says which file, item, field and value.

    The command line prints it as one line and ends with status 2.
    """

    def __init__(
        self,
        reason: str,
        *,
        file: object = None,
        item: object = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        self.reason, self.file, self.item, self.field = reason, file, item, field
        self.value = value
        super().__init__(self._line())

    def _line(self) -> str:
        place = [] if self.file is None else [_one_line(str(self.file))]
        if self.item is not None:
            place.append(f"item {_short(self.item)}")
        if self.field is not None:
            place.append(f"field {self.field}")
        line = ": ".join([*place, self.reason])
        if self.value is not None:
            line += f", got {_short(self.value)}"
        return line


def _short(value: object, limit: int = 120) -> str:
    text = _one_line(value if isinstance(value, str) else repr(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return text.encode("unicode_escape", "backslashreplace").decode("ascii")
