"""Images with a structure of their own (qcow2, vmdk ..): qemu-nbd reads and writes them, we are its client."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Sequence

from powervisor.block.nbd import NbdDisk, Refusal
from powervisor.block.nbd_server import NbdServer, agreed
from powervisor.errors import UserError

FORMATS = ("qcow2", "vmdk", "vdi", "vhdx", "vpc", "qed", "qcow", "parallels", "bochs", "cloop", "dmg")
_OPEN_SECONDS, _END_SECONDS = 60, 60
_SOCKET_ACTIVATION = 'exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"'
_NOISE = "qemu-nbd: "
_LOCKED = re.compile('Failed to get .*"[a-z]+" lock')


class _Server:
    """A qemu-nbd with one client, which is us. It ends when the connection does, and with this process."""

    def __init__(self, command: Sequence[str], listener: socket.socket) -> None:
        self._errors = os.memfd_create("qemu-nbd-errors", os.MFD_CLOEXEC)
        self._process: subprocess.Popen[bytes] | None = None
        failures: list[OSError] = []
        started = threading.Event()

        def keep() -> None:
            # The thread that starts it lives as long as it does: it gets its signal when that thread ends.
            try:
                self._process = subprocess.Popen(
                    command, stdin=listener.fileno(), stdout=subprocess.DEVNULL, stderr=self._errors,
                    start_new_session=True,
                )  # fmt: skip
            except OSError as error:
                failures.append(error)
            started.set()
            if self._process is not None:
                self._process.wait()

        self._keeper = threading.Thread(target=keep, name="qemu-nbd", daemon=True)
        self._keeper.start()
        started.wait()
        if failures:
            os.close(self._errors)
            raise failures[0]

    def said(self) -> list[str]:
        """Its complaints until now."""
        data = os.pread(self._errors, 1 << 16, 0).decode(errors="replace")
        return [line.strip().removeprefix(_NOISE) for line in data.splitlines() if line.strip()]

    def why_gone(self) -> str:
        """Why there is no connection any more."""
        return "; ".join(["qemu-nbd has ended", *self.said()[-1:]])

    def stop(self) -> None:
        """End it though there was no connection."""
        if self._process is not None:
            self._process.terminate()
        self._keeper.join(_END_SECONDS)

    def close(self) -> None:
        """Wait until it has stored everything, which it does when the connection has ended."""
        self._keeper.join(_END_SECONDS)
        if self._process is not None and self._keeper.is_alive():
            self._process.kill()
            self._keeper.join()
        os.close(self._errors)


def on_file(file: str, block_device: bool, locking: bool) -> str:
    """Where an image is, as qemu-nbd is told: in a file or on a block device."""
    driver = "host_device" if block_device else "file"
    return f"file.driver={driver},file.filename={_quoted(file)},file.locking={'auto' if locking else 'off'}"


def on_server(server: NbdServer) -> str:
    """Where an image is, as qemu-nbd is told: the export of another server."""
    place = f"type=unix,file.server.path={_quoted(server.path)}"
    if not server.path:
        place = f"type=inet,file.server.host={_quoted(server.host)},file.server.port={server.port}"
    return f"file.driver=nbd,file.export={_quoted(server.export)},file.server.{place}"


def _quoted(text: str) -> str:
    return text.replace(",", ",,")


def open_image(
    place: str, image_format: str, where: str, read_only: bool, sync: bool, flushes: bool, unmap: bool
) -> NbdDisk:
    """The disk in the image at `place`, which `on_file` or `on_server` made. Raises UserError."""
    program = shutil.which("qemu-nbd")
    if program is None:
        raise UserError(f"{where}: {image_format} images need qemu-nbd, which is not installed; apt install qemu-utils")
    image = f"driver={image_format},{place}"
    words = [program, "--image-opts", *(["--read-only"] if read_only else [])]
    words += [f"--cache={'writeback' if flushes else 'unsafe'}", f"--discard={'unmap' if unmap else 'ignore'}", image]
    try:
        ours, listener = _private_pair()
    except OSError as error:
        raise UserError(
            f"{where}: no socket for qemu-nbd ({error.strerror}); set TMPDIR to a directory of yours"
        ) from None
    server = None
    try:
        server = _Server([*_dying_with_us(), "sh", "-c", _SOCKET_ACTIVATION, *words], listener)
        listener.close()
        export = agreed(ours, "", read_only, sync)
        return NbdDisk(ours, export, read_only, sync, flushes, unmap, server.why_gone, server.close)
    except (OSError, Refusal) as error:
        ours.close()
        said: list[str] = []
        if server:
            server.stop()
            said = server.said()
            server.close()
        raise UserError(f"{where}: {_explained(said, error, image_format)}") from None
    finally:
        listener.close()


def _dying_with_us() -> list[str]:
    """A kill while the two are about to agree would leave it waiting; later it ends with the connection."""
    program = shutil.which("setpriv")
    return [program, "--pdeathsig", "TERM"] if program else []


def _private_pair() -> tuple[socket.socket, socket.socket]:
    """A connected Unix socket, and the listening one whose first client it is; nobody else can reach that."""
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    import tempfile

    directory = tempfile.mkdtemp(prefix="powervisor-nbd-")
    handle = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{handle}/socket"  # a socket's path has at most 107 bytes
        listener.bind(short)
        listener.listen(1)
        ours.settimeout(_OPEN_SECONDS)
        ours.connect(short)
        return ours, listener
    except BaseException:
        ours.close()
        listener.close()
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink("socket", dir_fd=handle)
        os.close(handle)
        os.rmdir(directory)


def _explained(said: list[str], error: Exception, image_format: str) -> str:
    text = " ".join(said)
    if _LOCKED.search(text):
        return "another machine uses this image; stop that one, or work on a copy"
    if isinstance(error, Refusal):
        return f"qemu-nbd cannot be used: {error}"
    if said:
        remedy = f"see whether it is a {image_format} image (qemu-img info)"
        why = said[0].rpartition("': ")[2]
        return f"qemu-nbd cannot open it ({why}); {remedy}"
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return f"qemu-nbd does not start ({error.strerror or 'no answer'}); run qemu-nbd --version to see why"
    return "qemu-nbd ended without a word; run qemu-nbd --version to see why"
