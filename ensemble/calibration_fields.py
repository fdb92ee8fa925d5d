"""Reads the fields of a TOML table one by one, and says which one is wrong."""

from collections.abc import Mapping
from math import isfinite
from typing import Any, NamedTuple

from smallobj.boxes import InputError

_ABSENT: Any = object()


class Fields(NamedTuple):
    """A table as TOML gives it; a method for each kind of value raises InputError for another.

    A field that is absent has the default, where one is given.
    """

    content: Mapping[str, Any]
    where: str  # the table's own name, for the error

    def text(self, name: str, default: Any = _ABSENT) -> Any:
        """A text, or the default."""
        return self._checked(name, default, "a text", lambda value: isinstance(value, str))

    def flag(self, name: str, default: Any = _ABSENT) -> Any:
        """True or false, or the default."""
        return self._checked(name, default, "true or false", lambda v: isinstance(v, bool))

    def count(self, name: str, default: Any = _ABSENT) -> Any:
        """A whole number, not negative, or the default."""
        return self._checked(
            name, default, "a whole number from 0", lambda v: type(v) is int and v >= 0
        )

    def number(self, name: str, default: Any = _ABSENT) -> Any:
        """A finite number as a float, or the default."""
        value = self._checked(name, default, "a number", _is_number)
        return float(value) if _is_number(value) else value

    def numbers(self, name: str) -> tuple[float, ...]:
        """A list of finite numbers."""
        found = self._checked(name, _ABSENT, "a list of numbers", _all(_is_number))
        return tuple(float(value) for value in found)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts."""
        return tuple(
            self._checked(name, _ABSENT, "a list of texts", _all(lambda v: isinstance(v, str)))
        )

    def tables(self, name: str) -> list[Mapping[str, Any]]:
        """A list of tables."""
        return self._checked(
            name, _ABSENT, "a list of tables", _all(lambda v: isinstance(v, Mapping))
        )

    def _checked(self, name: str, default: Any, expected: str, fits: Any) -> Any:
        field = f"{self.where}.{name}"
        if not isinstance(self.content, Mapping):
            raise InputError("has to be a table", field=self.where, value=self.content)
        if name not in self.content:
            if default is _ABSENT:
                raise InputError(f"is missing; it is {expected}", field=field)
            return default
        value = self.content[name]
        if not fits(value):
            raise InputError(f"has to be {expected}", field=field, value=value)
        return value


def _is_number(value: Any) -> bool:
    return type(value) in {int, float} and isfinite(value)


def _all(fits: Any) -> Any:
    return lambda value: isinstance(value, list) and all(fits(entry) for entry in value)
