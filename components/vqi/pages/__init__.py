"""The look that every HTML page shares."""
