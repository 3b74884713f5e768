"""The server: bundles behind HTTP and gRPC, in the words of three protocols, without torch."""
