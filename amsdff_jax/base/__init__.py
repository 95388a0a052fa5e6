"""What everything stands on: errors, files, validation."""
