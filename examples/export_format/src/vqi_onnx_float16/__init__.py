"""ONNX with weights in half precision, as an export format of vqi."""
