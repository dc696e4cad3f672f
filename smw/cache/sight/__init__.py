"""What can be seen of a cache: figures, log records, the story of one key, the contents of servers."""
