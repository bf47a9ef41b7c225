"""The stand-alone application and its command line."""
