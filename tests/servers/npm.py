"""Packages of npm, of which only files are used: neither npm nor Node.js is needed."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path

from tests.servers.errors import InstallError

LIMIT = 60
"""Seconds without an answer after which the registry is given up."""


def unpack(folder: Path, package: str, version: str, *, sha512: str) -> None:
    """Download one version of a package, make sure that it is the one meant, and unpack it."""
    url = f"{_registry()}/{package}/-/{package.rpartition('/')[2]}-{version}.tgz"
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:
            packed = answer.read()
    except OSError as error:
        raise InstallError(f"{url}: {error}") from error
    found = base64.b64encode(hashlib.sha512(packed).digest()).decode()
    if found != sha512:
        raise InstallError(f"{url}: SHA-512 is {found}, not {sha512}")
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder)  # exactly these bytes are known


def _registry() -> str:
    """Return the registry that npm uses here, where somebody said so, else the public one."""
    given = os.environ.get("NPM_CONFIG_REGISTRY")
    if not given and (npm := shutil.which("npm")):
        done = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True, check=False)
        given = done.stdout.strip()
    return given.rstrip("/") if given and given.startswith("http") else "https://registry.npmjs.org"
