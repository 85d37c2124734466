"""powervisor-system-ppc and powervisor-system-ppc64."""
