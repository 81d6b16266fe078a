"""What holds for every test."""

from hypothesis import HealthCheck, settings

# An example is given 200 ms by default, of the clock on the wall: whoever else uses the machine would decide.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")
