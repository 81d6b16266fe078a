"""What holds for all tests."""

from hypothesis import HealthCheck, settings

# How long an example takes is the machine's business, and what chance finds today is no fault of the change that is
# tested today: with --hypothesis-profile=default it looks for more.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.load_profile("steady")
