"""The errors a person meets: one line that says where, what, and what to do."""


class PowervisorError(Exception):
    """Base of every error this package raises on purpose."""

    exit_status = 1


class UserError(PowervisorError):
    """A mistake in what the user asked for; the message names the option and the remedy."""


class UsageError(UserError):
    """A command line that does not parse (exit status 2)."""

    exit_status = 2


class GuestError(PowervisorError):
    """A guest fault that cannot be delivered to the guest: checkstop, double fault (exit status 3)."""

    exit_status = 3
