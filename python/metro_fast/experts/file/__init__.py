"""The file of an expert: its manifest, and the tensors that its bytes decode to."""
