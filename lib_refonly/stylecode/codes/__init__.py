"""Codes for styles: 20 numbers as text and back, and what can be done with them. Pure Python, without torch: others may import it.

v1       27 symbols  the released code's: base64 of 20 bytes; clips at 1
short    21 symbols  the paper's form: 20 symbols, one a number, and one that says the model
long     29 symbols  the same numbers, the model's fingerprint, and check symbols that correct a slip
"""

from lib_refonly.stylecode.codes.codec import Code as Code
from lib_refonly.stylecode.codes.codec import read as read
from lib_refonly.stylecode.codes.codec import write_long as write_long
from lib_refonly.stylecode.codes.codec import write_short as write_short
from lib_refonly.stylecode.codes.known import RELEASED as RELEASED
from lib_refonly.stylecode.codes.known import TINY as TINY
from lib_refonly.stylecode.codes.known import CodeModel as CodeModel
from lib_refonly.stylecode.codes.v1 import write_v1 as write_v1
