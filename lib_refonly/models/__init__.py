"""What is installed, what a file is, how it is fetched. Nothing here runs code that a file carries."""
