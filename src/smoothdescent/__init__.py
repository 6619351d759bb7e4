"""A laboratory for deep double descent and the input-space sharpness of the loss."""

__version__ = "0.1.0"
