"""Errors that a painter reads.

Every error that can reach a page, an infotext or a terminal derives from `PainterError`; its text says what is wrong and what to do, in one
or two plain sentences. Anything else that escapes is a bug and keeps its traceback.
"""


class PainterError(Exception):
    """Something the painter can mend. `str(error)` is shown as it stands. `exit_code` is the command line's."""

    exit_code = 1


class BadPicture(PainterError):
    """A file or an upload that is no usable picture."""

    exit_code = 3


class BadModel(PainterError):
    """A model file or folder that is wrong, incomplete, unsafe, or does not fit what it is used with."""

    exit_code = 4


class BadSettings(PainterError):
    """A setting outside its range, or two that contradict each other."""

    exit_code = 2


class CannotWrite(PainterError):
    """The result could not be saved (disk full, read-only folder). Nothing half-written is left."""

    exit_code = 5


class OutOfMemory(PainterError):
    """The device has no memory left; the text names the settings that need less."""

    exit_code = 6


class Offline(PainterError):
    """A download is needed and the network (or the painter's consent) is not there."""

    exit_code = 7


class Interrupted(PainterError):
    """The painter pressed stop, or Ctrl-C."""

    exit_code = 130
