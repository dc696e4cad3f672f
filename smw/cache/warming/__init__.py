"""Memory filled before anybody asks: by calls, or by what the fleet asks for most."""
