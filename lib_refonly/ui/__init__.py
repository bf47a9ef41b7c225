"""Gradio panels, shared by the studio and the WebUI. Importing this package imports no gradio; its modules do."""
