"""What happens where a file is at fault: reading stops there, checking notes it and goes on."""

from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from smallobj.boxes import InputError

Severity = Literal["error", "warning", "notice"]

GEOMETRY = frozenset({"swapped corners", "zero area", "outside the image"})
_SEVERITY: dict[str, Severity] = {
    "duplicate box": "warning",
    "class without boxes": "warning",
    "no image folder": "warning",
    "image without labels": "notice",
}


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of a data set: what kind, and which file, item, field and value."""

    kind: str
    reason: str
    file: str | None = None
    item: str | None = None
    field: str | None = None
    value: Any = None

    @property
    def severity(self) -> Severity:
        """Errors stop reading or lose boxes; warnings and notices do neither."""
        return _SEVERITY.get(self.kind, "error")

    def as_dict(self) -> dict[str, Any]:
        """The fault as plain values, for JSON."""
        value = self.value if isinstance(self.value, str | int | None) else repr(self.value)
        return {"severity": self.severity, **asdict(self), "value": value}


class Faults(Protocol):
    """Where the readers report to; after `add` returns, the reader leaves the faulty part out."""

    def add(
        self,
        kind: str,
        reason: str,
        *,
        file: object = None,
        item: object = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        """Take one fault."""


@dataclass(frozen=True)
class Stop:
    """Reading: a wrong value raises InputError at once; geometry does only where `strict`.

    Boxes of faulty geometry are repaired or dropped and counted in Repairs instead.
    """

    strict: bool = False

    def add(
        self,
        kind: str,
        reason: str,
        *,
        file: object = None,
        item: object = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        """Raise InputError unless reading can go on."""
        if kind in _SEVERITY or (kind in GEOMETRY and not self.strict):
            return
        raise InputError(reason, file=file, item=item, field=field, value=value)


class Collected:
    """Checking: every fault is kept, in the order met."""

    def __init__(self) -> None:
        self.found: list[Fault] = []

    def add(
        self,
        kind: str,
        reason: str,
        *,
        file: object = None,
        item: object = None,
        field: str | None = None,
        value: object = None,
    ) -> None:
        """Keep the fault."""
        self.found.append(
            Fault(
                kind=kind,
                reason=reason,
                file=None if file is None else str(file),
                item=None if item is None else str(item),
                field=field,
                value=value,
            )
        )
