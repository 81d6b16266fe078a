"""What is looked at before gpumon is given away: ``make release-check``."""
