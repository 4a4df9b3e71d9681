"""How many bytes the server accepts in one statement."""

from __future__ import annotations

from aiotaskstore.errors import PayloadError
from aiotaskstore.storage.statement_size import MOST_CHARACTERS


class PacketLimit:
    """The server's max_allowed_packet, once it has been read."""

    def __init__(self) -> None:
        self._packet: int | None = None
        self.most_characters: int = MOST_CHARACTERS
        """Characters in one statement: an eighth of the packet, since escaping may make seven bytes of one."""

    @property
    def known(self) -> bool:
        """Whether the limit has been read from the server."""
        return self._packet is not None

    def set(self, packet: int) -> None:
        """Record the server's setting."""
        self._packet = packet
        self.most_characters = min(MOST_CHARACTERS, packet // 8)

    def check(self, sql: str) -> None:
        """Raise `PayloadError` for a statement so large that the server would close the connection."""
        if self._packet is None or 4 * len(sql) < self._packet:  # no character has more than four bytes
            return
        size = len(sql.encode())
        if size >= self._packet:  # the packet begins with one byte that names the command
            raise PayloadError(
                f"A statement of {size:,} bytes does not fit in MySQL's max_allowed_packet, {self._packet:,} bytes. "
                "Store less in one row, or raise max_allowed_packet on the server."
            )
