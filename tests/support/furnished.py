"""What each plugged device stands in front of: a disk, a directory, a network and lines that the test holds."""

from __future__ import annotations

from pathlib import Path

from powervisor.block.drives import open_drives
from powervisor.devices.lines import Lines
from powervisor.devices.services import Services
from powervisor.fsdev.options import open_exports
from tests.support.line import Line
from tests.support.wire import Wire

DISK = 65536
NEEDS = {
    "virtio-blk-pci": ",drive=d,discard=on",
    "virtio-9p-pci": ",fsdev=f,mount_tag=t",
    "virtio-net-pci": ",netdev=n",
    "virtio-serial-pci": ",max_ports=3",
    "e1000": ",netdev=n",
    "eTSEC": ",netdev=n",
    "sd-card": ",drive=d",
    "cfi.pflash01": ",drive=d",
    "at24c-eeprom": f",address=0x50,rom-size={DISK},drive=d",
}
PORTS = {"virtio-serial-pci": ("virtconsole,chardev=c", "virtserialport,chardev=p,name=org.example")}


class Furniture:
    """Makes what devices need in `directory`: the file "disk" and the directory "share"."""

    def __init__(self, services: Services, directory: Path) -> None:
        self.services, self.disk, self.share = services, directory / "disk", directory / "share"
        self.disk.write_bytes(bytes(DISK))
        self.share.mkdir()
        services.drives = open_drives([f"file={self.disk},if=none,id=d,discard=unmap"])
        services.exports = open_exports([f"local,id=f,path={self.share}"])
        self.wire = services.netdevs.by_name["n"] = Wire("n")
        self.lines = {"c": Line(), "p": Line()}
        services.lines = Lines(self.lines)

    def words(self, model: str) -> tuple[str, ...]:
        """What -device is given for a model, with everything it needs; then for its ports."""
        packed = ",packed=on" if model.startswith("virtio") else ""
        return f"{model}{packed}{NEEDS.get(model, '')}", *PORTS.get(model, ())

    def close(self) -> None:
        self.services.drives.close()
        self.services.exports.close()
