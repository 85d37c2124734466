"""Networks as the host offers them: sockets, TAP interfaces, user networking, and captures of what passes."""
