"""Numbers of bytes for people."""


def file_size(nbytes: int) -> str:
    """Bytes in a unit that keeps the number short.

    Example:
        >>> file_size(999), file_size(50_000), file_size(285_184)
        ('999 bytes', '50 kB', '285.2 kB')
    """
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if nbytes >= factor:
            return f"{nbytes / factor:.1f}".removesuffix(".0") + f" {unit}"
    return f"{nbytes} bytes"
