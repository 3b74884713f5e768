"""A method for vqi that compares local colours with those of good parts."""
