"""What leaves medsearch, each checked against the network: ONNX, Python files that need torch alone, checkpoints."""
