"""Reference Only, Stylecodes and ONE-PIC for painters: in the WebUI and stand-alone."""

__version__ = "0.1.0"
