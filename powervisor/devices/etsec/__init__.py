"""Freescale's enhanced three-speed Ethernet controller (eTSEC), which Linux's gianfar and U-Boot's tsec drive."""
