"""User-facing errors. The command line prints each as one line and exits with code 2."""


class HeadwiseError(Exception):
    """Base of the errors below; its text is one line: what, where, what is allowed."""

    def __str__(self) -> str:
        """The message on one line, even if it quotes text with line breaks."""
        return " ".join(super().__str__().splitlines())


class ConfigError(HeadwiseError):
    """An invalid value in a study's configuration or on the command line."""


class DataError(HeadwiseError):
    """A benchmark file, answer file or image that is missing or malformed."""


class ModelError(HeadwiseError):
    """A checkpoint that cannot be loaded or whose architecture is not supported."""


class TrackingError(HeadwiseError):
    """A tracking server or store that cannot be reached, or that has no matching run."""
