"""A layout for vqi: photographs and the table of an inspection station."""
