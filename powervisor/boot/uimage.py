"""Legacy U-Boot images (uImage): a 64-byte header with two checksums before the payload."""

from __future__ import annotations

import struct
import zlib

from powervisor.boot import elf
from powervisor.boot.image import Image, Segment, gunzip
from powervisor.errors import UserError

MAGIC = b"\x27\x05\x19\x56"
_HEADER = struct.Struct(">7I4B32s")
_ARCH_PPC = 7
_STANDALONE, _KERNEL, _FIRMWARE, _KERNEL_NOLOAD = 1, 2, 5, 14
_TYPES = {3: "a ramdisk", 4: "a multi-file image", 6: "a script", 7: "a filesystem", 8: "a device tree"}
_COMPRESSIONS = {0: "none", 1: "gzip", 2: "bzip2", 3: "lzma", 4: "lzo", 5: "lz4", 6: "zstd"}


def load(data: bytes, where: str, ram_size: int, bits: int) -> Image:
    """The executable in uImage `data`, decompressed, for a core of `bits` bits. Raises UserError, naming `where`.

    The header does not tell 32-bit code from 64-bit code; an ELF file inside does, and where it goes.
    """
    if len(data) < _HEADER.size:
        raise UserError(f"{where}: truncated uImage ({len(data)} bytes); copy it again")
    _, header_crc, _, size, address, entry, data_crc, _, arch, kind, compression, _ = _HEADER.unpack_from(data)
    # The header's checksum is taken with its own field zero.
    if zlib.crc32(data[:4] + bytes(4) + data[8 : _HEADER.size]) != header_crc:
        raise UserError(f"{where}: corrupt uImage, header checksum is wrong; copy or build it again")
    payload = data[_HEADER.size : _HEADER.size + size]
    if len(payload) < size:
        raise UserError(f"{where}: truncated uImage, {len(payload)} of {size} bytes of data found; copy it again")
    if zlib.crc32(payload) != data_crc:
        raise UserError(f"{where}: corrupt uImage, data checksum is wrong; copy or build it again")
    if arch != _ARCH_PPC:
        raise UserError(f"{where}: a uImage for another architecture ({arch}), not PowerPC")
    if kind not in (_STANDALONE, _KERNEL, _FIRMWARE, _KERNEL_NOLOAD):
        raise UserError(f"{where}: {_TYPES.get(kind, f'uImage type {kind}')}, not a program; give a kernel image")
    if compression == 1:
        payload = gunzip(payload, ram_size, where)
    elif compression:
        name = _COMPRESSIONS.get(compression, str(compression))
        raise UserError(f"{where}: uImage compressed with {name}; make it with mkimage -C gzip or none")
    if not payload:
        raise UserError(f"{where}: an empty uImage")
    if payload[:4] == elf.MAGIC:
        return elf.load(payload, where, ram_size, bits)
    image = Image(where, entry, (Segment(address, payload, len(payload)),)).check_fits(ram_size)
    if entry >= ram_size:
        raise UserError(f"{where}: entry point 0x{entry:x} is beyond RAM of {ram_size >> 20} MiB")
    return image
