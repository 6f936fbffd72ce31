"""What each runtime does with each form that graphs of others have: the measurement behind `s2s lint`."""
