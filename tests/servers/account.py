"""The system user that a server runs as."""

from __future__ import annotations

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Account(NamedTuple):
    """The user that a server runs as; ``None`` is the caller."""

    uid: int | None = None
    gid: int | None = None

    @classmethod
    def find(cls, preferred: str) -> Account:
        """Find an unprivileged user for a caller who is root: the engines refuse to run as root."""
        if os.geteuid() != 0:
            return cls()
        for name in (preferred, "nobody", "aiotaskstore"):
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(name)
                return cls(entry.pw_uid, entry.pw_gid)
        subprocess.run(["useradd", "--system", "aiotaskstore"], check=True)
        return cls.find("aiotaskstore")

    def spawn(
        self,
        command: Iterable[str | Path],
        *,
        cwd: Path,
        output: int,
        libraries: str = "",
    ) -> subprocess.Popen[bytes]:
        """Start a command as this user, in a session of its own, out of a terminal's reach."""
        foreign = ("PG", "MYSQL", "MARIADB", "LC_", "LANG", "NOTIFY_", "TMPDIR")
        env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        env |= {"LC_ALL": "C", "HOME": str(cwd)}
        if libraries:
            env["LD_LIBRARY_PATH"] = libraries
        return subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
        )

    def own(self, path: Path) -> None:
        """Hand a file, or a directory and all that is in it, to this user."""
        if self.uid is not None and self.gid is not None:
            for each in (path, *path.rglob("*")):
                os.chown(each, self.uid, self.gid, follow_symlinks=False)

    def can_enter(self, folder: Path) -> bool:
        """Whether this user can reach what is in a directory."""
        check = self.spawn(["/bin/sh", "-c", 'test -x "$0"', folder], cwd=Path("/"), output=subprocess.DEVNULL)
        return check.wait() == 0
