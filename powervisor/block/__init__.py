"""Where a disk's bytes are: files of the host, and how a user names them."""
