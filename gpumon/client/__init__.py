"""Who looks at a fleet from a terminal: a hub's stream, the fleet as it tells it, and what is made of that."""
