"""The command line: thin commands over public calls, no logic of its own."""
