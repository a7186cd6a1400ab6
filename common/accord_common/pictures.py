"""One picture's bytes, decoded under an image schema.

Guarantees: what comes out has the schema's size and channels, and follows from file and schema
alone: as stored, without EXIF rotation, colour profile or alpha; grey by ITU-R 601-2 luma; resized,
where the schema says so, by bilinear interpolation over the area that a pixel covers. A broken file
is refused by its name; one of too many pixels, of several frames or of more than 8 bits a channel
is so before its pixels take memory.

Not covered: colours in other systems than grey, RGB and palettes of it (CMYK scans); windows of 12
or 16 bits, which a radiologist must choose.

Needs Pillow.
"""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from accord_common.errors import DataError
from accord_common.image_schema import ImageSchema

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
MAX_FILE_BYTES = 64 << 20
MAX_PIXELS = 1 << 26  # decoded, 256 MiB at most: a scan of 8,192 x 8,192
_FORMATS = ("PNG", "JPEG")
_PNG_DEPTH = 24  # where a PNG file says how many bits a channel has; Pillow takes the upper 8 of 16
_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA"})


def decode(data: bytes, name: str, schema: ImageSchema) -> NDArray[np.uint8]:
    """Decode a picture.

    Args:
        data: a PNG or JPEG file.
        name: of the file, for messages.
        schema: size, channels, and what becomes of another size.

    Returns:
        (channels, height, width).

    Raises:
        DataError: `broken-picture`, `picture-too-large`, `unsupported-picture` or `wrong-size`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.format == "PNG" and data[_PNG_DEPTH] > 8:
                raise _unsupported(name, f"{data[_PNG_DEPTH]} bits a channel")
            _refuse_unsupported(image, name, schema)
            plain = image.convert("L" if schema.channels == 1 else "RGB")
        if plain.size != (schema.width, schema.height):
            plain = plain.resize((schema.width, schema.height), Image.Resampling.BILINEAR)
        pixels = np.asarray(plain, np.uint8)
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large(name, str(error)) from error
    except Exception as error:  # a decoder's failure, in whatever way, means the same
        # Pillow's own words for bytes that it does not know are an address in memory.
        reason = "neither" if isinstance(error, UnidentifiedImageError) else str(error)
        raise DataError(
            "broken-picture",
            f"{name} is no whole PNG or JPEG: {reason}",
            hint="Replace the file, or take it out of the folder.",
        ) from error
    if schema.channels == 1:
        return pixels[np.newaxis]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _refuse_unsupported(image: Image.Image, name: str, schema: ImageSchema) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise _too_large(name, f"{width} x {height} pixels")
    if getattr(image, "is_animated", False):
        raise _unsupported(name, "it has more than one frame")
    if image.mode not in _MODES:
        raise _unsupported(name, f"its pixels are {image.mode}, not 8 bits grey or RGB")
    if schema.resize == "refuse" and (width, height) != (schema.width, schema.height):
        raise DataError(
            "wrong-size",
            f"{name} has {width} x {height} pixels, the schema {schema.width} x {schema.height}",
            hint="Resize the pictures, or agree on a schema with `resize: stretch`.",
        )


def _too_large(name: str, message: str) -> DataError:
    return DataError(
        "picture-too-large",
        f"{name}: {message}; at most {MAX_PIXELS} pixels are decoded",
        hint="Make it smaller.",
    )


def _unsupported(name: str, reason: str) -> DataError:
    return DataError(
        "unsupported-picture",
        f"{name}: {reason}",
        hint="Convert it to PNG, 8 bits a channel; for more bits agree on a window first.",
    )
