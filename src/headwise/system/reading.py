"""Reading the user's text and image files; every defect is reported as a one-line HeadwiseError.

Text is UTF-8 with or without a byte order mark, which Windows editors put before the first line. The mark is
removed, also in front of later lines (concatenated files).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwise.errors import DataError, HeadwiseError

if TYPE_CHECKING:
    from PIL import Image

MARK = "\ufeff"
ENCODING = "utf-8-sig"


def read_text(path: Path, kind: type[HeadwiseError] = DataError) -> str:
    """The file's text; an error of `kind` if it cannot be read or is not UTF-8."""
    return "".join(read_lines(path, kind))


def read_lines(path: Path, kind: type[HeadwiseError] = DataError) -> Iterator[str]:
    """The file's lines with their ends, one at a time; errors as for `read_text`."""
    try:
        with open(path, encoding=ENCODING) as lines:
            for line in lines:
                yield line.removeprefix(MARK)
    except UnicodeDecodeError as error:
        raise kind(f"cannot read {path}: not UTF-8 text (byte 0x{error.object[error.start]:02x})") from error
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise kind(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text; DataError that begins with `where` for anything unusable.

    Besides invalid JSON these are: nesting beyond Python's recursion limit, numbers with more digits than Python
    converts, and lone surrogates, which cannot be encoded as UTF-8.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not valid JSON ({error.msg})") from error
    except RecursionError as error:
        raise DataError(f"{where}: not usable JSON (nested too deeply)") from error
    except ValueError as error:
        digits = sys.get_int_max_str_digits()
        raise DataError(f"{where}: not usable JSON (a number of more than {digits} digits)") from error
    if "\\ud" in text.lower() and has_lone_surrogate(value):
        raise DataError(f"{where}: not usable JSON (a lone surrogate, half of a character)")
    return value


def has_lone_surrogate(value: Any) -> bool:
    """True if a string anywhere in the value (lists, dicts and scalars) holds a lone surrogate."""
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        return True
    return False


def read_image(path: Path) -> Image.Image:
    """The image as RGB. DataError if it is missing, cannot be decoded, or is too large to be padded to a square."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            check_square(image)
            return image.convert("RGB")
    except FileNotFoundError as error:
        raise DataError(f"cannot read image {path}: no such file") from error
    # Pillow's decoders raise many types for broken files: OSError, SyntaxError, RuntimeError (AVIF), struct.error,
    # IndexError, …. Any of them must only affect the questions about this image.
    except Exception as error:
        raise DataError(f"cannot read image {path}: {_first_line(error)}") from error


def check_square(image: Image.Image) -> None:
    """DataError for an image that, padded to the square the model sees, exceeds Pillow's pixel limit."""
    from PIL import Image

    side = max(image.size)
    most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
    if most and side * side > most:
        width, height = image.size
        raise DataError(f"{width} x {height} pixels: padded to a square it has more than {most:,}")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
