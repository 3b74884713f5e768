"""`vqi watch`: decisions on photographs as they come, handed to where they are needed."""
