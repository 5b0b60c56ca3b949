"""A small disk of one's own that can lose its power: ext4 on a loop device. Linux and root only."""

from __future__ import annotations

import ctypes
import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from experiments.errors import ConfigError

__all__ = ["Disk", "small_disk"]

SHUTDOWN, WITHOUT_FLUSHING_THE_JOURNAL = 0x8004587D, 2  # FS_IOC_SHUTDOWN
NEEDS = "A power cut needs Linux, root, mkfs.ext4 and the right to mount a loop device."


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted file system in one file."""

    folder: Path
    image: Path

    def cut_power(self) -> None:
        """Lose everything that no fsync has confirmed. Writers must be stopped first: a running fdatasync may falsely return 0."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, ctypes.c_uint32(WITHOUT_FLUSHING_THE_JOURNAL))
        finally:
            os.close(descriptor)

    def power_on(self) -> None:
        """Mount it again; nobody may have a file of it open."""
        _unmount(self)
        _mount(self)


@contextmanager
def small_disk(folder: Path, *, megabytes: int = 48) -> Iterator[Disk]:
    """Yield a fresh ext4 inside ``folder``, gone afterwards.

    Raises
    ------
    ConfigError
        This machine or this user cannot have one.
    """
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        raise ConfigError("no disk can be made whose power could be cut.", NEEDS)
    disk = Disk(folder / "disk", folder / "disk.img")
    disk.folder.mkdir(parents=True)
    with disk.image.open("wb") as file:
        file.truncate(megabytes << 20)
    subprocess.run(["mkfs.ext4", "-q", str(disk.image)], check=True)
    _mount(disk)
    try:
        yield disk
    except BaseException:
        subprocess.run(["umount", "--lazy", str(disk.folder)], check=False)  # whatever went wrong, and whoever has a file of it open
        raise
    _unmount(disk)


def _unmount(disk: Disk) -> None:
    """A few tries: the kernel closes the files of a killed process a little after its end."""
    for _ in range(100):
        done = subprocess.run(["umount", str(disk.folder)], capture_output=True, text=True, check=False)
        if not done.returncode:
            return
        time.sleep(0.1)
    raise ConfigError(f"the disk cannot be unmounted: {done.stderr.strip()}.", "End what has a file of it open.")


def _mount(disk: Disk) -> None:
    done = subprocess.run(["mount", "-o", "loop", str(disk.image), str(disk.folder)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"the disk cannot be mounted: {done.stderr.strip() or 'no reason was given'}.", NEEDS)
