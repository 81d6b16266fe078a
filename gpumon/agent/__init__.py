"""The agent: reads one machine's GPUs, serves them, pushes them to a hub."""
