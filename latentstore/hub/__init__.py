"""The one door to huggingface_hub: models (weights of VAEs) and datasets (ours)."""
