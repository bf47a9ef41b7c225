"""Stylecodes: a picture's style as 20 symbols. `codec` is pure Python and can be used by itself."""
