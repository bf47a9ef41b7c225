"""Tests of lib_refonly.imaging: a package, so that its helpers can be imported and its file names are its own."""
