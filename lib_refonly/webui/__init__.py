"""The extension inside a WebUI. The only package that imports the host's `modules`."""
