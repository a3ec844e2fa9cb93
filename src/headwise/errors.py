"""The errors a user can cause. The command line prints each as one line and exits with code 2."""


class HeadwiseError(Exception):
    """Base of the errors below; its text is one line: what, where, what is allowed."""

    def __str__(self) -> str:
        """One line also where a name in it, or another library's message, has line breaks."""
        return " ".join(super().__str__().splitlines())


class ConfigError(HeadwiseError):
    """A value in a study's configuration or on the command line that cannot be used."""


class DataError(HeadwiseError):
    """A benchmark file, answer file or image that is missing or malformed."""


class ModelError(HeadwiseError):
    """A checkpoint that cannot be loaded or whose architecture is not supported."""


class TrackingError(HeadwiseError):
    """A tracking server or store that cannot be reached, or that holds nothing that fits."""
