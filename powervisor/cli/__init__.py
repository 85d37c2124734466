"""The `powervisor` command; one file per subcommand, each imported only when it is called."""
