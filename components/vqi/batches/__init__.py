"""Between the Dataset and a detector: batches as tensors."""
