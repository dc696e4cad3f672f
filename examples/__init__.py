"""Runnable examples: one small script for each part, and a whole service in `music_agent`."""
