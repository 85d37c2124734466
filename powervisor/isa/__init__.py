"""The architecture as data: instruction notation, registers, core models; decoder, assembler and disassembler."""
