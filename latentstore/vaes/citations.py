"""Who is to be cited for the VAEs of the table, as their publishers ask for it."""

from __future__ import annotations

LATENT_DIFFUSION = (
    "R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer. High-Resolution Image Synthesis with Latent Diffusion "
    "Models. CVPR 2022."
)
SDXL = (
    "D. Podell, Z. English, K. Lacey, A. Blattmann, T. Dockhorn, J. Müller, J. Penna, R. Rombach. SDXL: Improving "
    "Latent Diffusion Models for High-Resolution Image Synthesis. ICLR 2024."
)
SD3 = "P. Esser et al. Scaling Rectified Flow Transformers for High-Resolution Image Synthesis. ICML 2024."
FLUX1 = "Black Forest Labs. FLUX. 2024. https://github.com/black-forest-labs/flux"
FLUX2 = "Black Forest Labs. FLUX.2: Frontier Visual Intelligence. 2025. https://bfl.ai/blog/flux-2"
DC_AE = (
    "J. Chen, H. Cai, J. Chen, E. Xie, S. Yang, H. Tang, M. Li, Y. Lu, S. Han. Deep Compression Autoencoder for "
    "Efficient High-Resolution Diffusion Models. ICLR 2025."
)
QWEN_IMAGE = "C. Wu et al. Qwen-Image Technical Report. arXiv:2508.02324, 2025."
WAN = "Team Wan. Wan: Open and Advanced Large-Scale Video Generative Models. arXiv:2503.20314, 2025."
HUNYUAN_IMAGE = (
    "Tencent Hunyuan Team. HunyuanImage 2.1: An Efficient Diffusion Model for High-Resolution (2K) Text-to-Image "
    "Generation. 2025. https://github.com/Tencent-Hunyuan/HunyuanImage-2.1"
)
TAESD = "O. Boer Bohan. TAESD: Tiny AutoEncoder for Stable Diffusion. 2023. https://github.com/madebyollin/taesd"
OWN = "Part of latentstore."
