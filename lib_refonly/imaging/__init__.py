"""Pictures in, pictures out: safe decoding, line art, background, fit, layers, PNG with infotext. PIL, numpy and OpenCV only."""
