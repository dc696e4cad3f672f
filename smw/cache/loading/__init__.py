"""What happens on a miss: one load for all who ask, here and in the fleet, in time or something in its place."""
