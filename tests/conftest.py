"""Tiny models run ten times slower on several threads than on one when the cores are busy."""

import torch

torch.set_num_threads(1)
