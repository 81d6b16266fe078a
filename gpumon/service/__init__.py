"""gpumon as a service of the machine: a systemd unit, what it is told, how it does."""
