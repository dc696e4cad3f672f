"""The rules of HTTP caching that the response cache keeps; pure functions of headers and time, no I/O."""
