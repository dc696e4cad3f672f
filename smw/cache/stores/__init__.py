"""What keeps values for several processes: Redis, a Redis cluster, memcached, stores of others."""
