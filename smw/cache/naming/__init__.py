"""What a result is called: arguments into keys, keys into names on servers, tags from arguments."""
