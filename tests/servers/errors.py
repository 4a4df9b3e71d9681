"""What can go wrong before a server takes clients."""

from __future__ import annotations


class EngineMissingError(RuntimeError):
    """No usable database engine was found, nor could one be installed."""


class InstallError(RuntimeError):
    """An engine could not be downloaded, unpacked or built; the message has what the tool said."""


class ServerError(RuntimeError):
    """A server did not start, or ended on its own; the message has the end of its log."""


def advice(engine: str, tried: list[str], ways: str) -> str:
    looked = "".join(f"\n    {line}" for line in dict.fromkeys(tried)) or "\n    nothing found"
    return f"{engine} is missing. Looked at:{looked}\nGet it in one of these ways:\n{ways}"
