"""Intel's 82540EM, the Ethernet controller that the e1000 drivers of Linux and U-Boot know."""
