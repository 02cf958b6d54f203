"""Rollouts on grids that are larger than memory or than one device, with the numbers and masks of the whole grid."""
