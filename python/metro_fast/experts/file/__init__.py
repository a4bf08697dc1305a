"""The bytes of an expert file: manifest, segments, decoding."""
