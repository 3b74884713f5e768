"""A set of photographs written in another layout, and with other splits."""
