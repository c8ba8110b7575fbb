"""What can go wrong with the embedded stack that a person can mend.

EmbeddedError
├── SettingsError   a variable is not what was wanted
├── PortTaken       something else listens where a part wants to
├── PartFailed      a part did not become ready
├── StackConflict   the stack that runs is not the one that was asked for
└── BackupError     a backup cannot be made, or not be restored
"""


class EmbeddedError(Exception):
    """Base of them all. The message is one sentence with the remedy, fit to be shown."""


class SettingsError(EmbeddedError):
    """A setting is not what was wanted; the message names the variable."""


class PortTaken(EmbeddedError):  # noqa: N818 - what happened says more than another "Error"
    """A port that a part wants is in use; the message names the port, the part and the variable that changes it."""


class PartFailed(EmbeddedError):  # noqa: N818 - what happened says more than another "Error"
    """A part did not start, or was not ready in time.

    Attributes:
        part: Its name.
        log_tail: The last lines of its log, oldest first.
    """

    def __init__(self, part: str, message: str, log_tail: list[str]) -> None:
        super().__init__(message)
        self.part = part
        self.log_tail = log_tail


class StackConflict(EmbeddedError):  # noqa: N818 - what happened says more than another "Error"
    """The stack in this state folder runs with other settings, or another command is changing it."""


class BackupError(EmbeddedError):
    """A backup cannot be made or restored; the message names the file."""
