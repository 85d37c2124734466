"""Linux guests: a kernel from Debian's linux-source, a RAM disk with busybox and our own /init."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """What a word size is compiled with."""

    prefix: str
    packages: tuple[str, ...]


TARGETS = {
    32: Target("powerpc-linux-gnu-", ("gcc-powerpc-linux-gnu", "libc6-dev-powerpc-cross")),
    64: Target("powerpc64-linux-gnu-", ("gcc-powerpc64-linux-gnu", "libc6-dev-ppc64-cross")),
}
HOST_PACKAGES = ("make", "gcc", "libc6-dev", "xz-utils", "bzip2")
