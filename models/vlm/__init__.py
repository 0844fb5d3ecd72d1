"""The captioner: Qwen2.5-VL watching an endless video in constant memory (StreamingVLM)."""
