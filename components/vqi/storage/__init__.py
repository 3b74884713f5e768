"""Everything that speaks S3, and weights by address."""
