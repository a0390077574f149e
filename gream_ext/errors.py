"""The exceptions that are meant for the user's eyes."""


class GreamError(Exception):
    """Something the user can mend: one line that names the file, the row or option, and the cure.

    The command line prints it without a traceback and exits with code 2.
    """


class ModelFault(GreamError):
    """The model computes what cannot be right: no mistake of whoever asks it, but of whoever made it."""
