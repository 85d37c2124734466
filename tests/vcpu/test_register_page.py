"""The page of registers follows the declarations."""

from pathlib import Path

from powervisor.vcpu.document import document

PAGE = Path(__file__).parents[2] / "docs" / "registers.md"


def test_the_page_of_registers_is_current() -> None:
    assert PAGE.read_text() == document(), "run: python -m powervisor.vcpu.document > docs/registers.md"


def test_registers_have_their_numbers_privileges_and_fields() -> None:
    page = document()
    assert "| SRR0 | 26 | supervisor | supervisor | 64 or 32 |  | all | for a guest GSRR0 |" in page
    assert "| PVR | 287 | supervisor |  | 32 | e500mc 0x80230020, e5500 0x80240020, e6500 0x80400020 | all |  |" in page
    assert "### EPCR" in page and "| 0 | EXTGS | `0x80000000` |" in page
