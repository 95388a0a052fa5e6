"""Many devices and many hosts: who computes which rows of a batch, and how processes work together."""
