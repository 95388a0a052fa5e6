"""The programs that exports carry as `load.py`; copied, never imported."""
