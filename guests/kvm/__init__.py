"""Virtual machines inside a Linux guest: a small monitor for its KVM, and RAM disks that carry one to boot."""
