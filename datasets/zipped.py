"""Images inside a zip archive, read from where they are: nothing is unpacked to disk."""

import io
import zipfile
from pathlib import Path
from typing import BinaryIO

from smallobj.boxes import InputError

_HEAD_BYTES = 1 << 20  # all but a few TIFF files say their size in here


class ZipArchive:
    """A zip archive whose members are images; may be read from several threads at once.

    Raises InputError where the file is no zip archive.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise InputError(f"zip archive cannot be read: {error}", file=path) from error

    def names(self) -> list[str]:
        """Paths of the files inside, as the archive spells them, folders left out."""
        return [member.filename for member in self._zip.infolist() if not member.is_dir()]

    def member(self, name: str) -> "ZipMember":
        """The member at that path; raises KeyError where there is none."""
        return ZipMember(self, self._zip.getinfo(name))

    def close(self) -> None:
        """Close the file; its members cannot be read any more."""
        self._zip.close()

    def opened(self, info: zipfile.ZipInfo) -> BinaryIO:
        """A stream of one member's bytes; it ends where the archive says, and checks their sum."""
        return self._zip.open(info)  # type: ignore[return-value]  # IO[bytes], which is what it is


class ZipMember:
    """One file inside an archive, with what reading an image needs of a `Path`."""

    def __init__(self, archive: ZipArchive, info: zipfile.ZipInfo) -> None:
        self._archive, self._info = archive, info

    def __str__(self) -> str:
        return f"{self._archive.path}/{self._info.filename}"

    @property
    def size(self) -> int:
        """Bytes it has unpacked, as the archive says; no more than these are ever read."""
        return self._info.file_size

    @property
    def stamp(self) -> tuple[int, int]:
        """Size and checksum: another pair means other content."""
        return self._info.file_size, self._info.CRC

    def head(self) -> BinaryIO:
        """Its first megabyte, to look for a header in."""
        with self._archive.opened(self._info) as stream:
            return io.BytesIO(stream.read(_HEAD_BYTES))

    def read_bytes(self) -> bytes:
        """All of it; raises zipfile.BadZipFile where its checksum is wrong."""
        with self._archive.opened(self._info) as stream:
            return stream.read()
