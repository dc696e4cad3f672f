"""Memory, Redis and memcached as one: where a value is looked for, and what is filled and dropped."""
