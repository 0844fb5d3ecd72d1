"""transformers' Qwen2.5-VL, called part by part with our positions and our cache."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from longtake.models.vlm.cache import StreamingCache
from longtake.models.vlm.rotation import Rotation
from longtake.models.vlm.turns import Grid

# Their frequencies stay what they are however long the text is, so keys can be turned.
STEADY_ROPES = {"default", "linear", "yarn", "llama3"}


class Network:
    """The forwards of a captioner; one sequence at a time.

    Args:
        model: ``Qwen2_5_VLForConditionalGeneration``, in evaluation mode; used as it is.

    Attributes:
        device: of the weights.
        dtype: that it computes in.
        vocabulary: tokens that logits are given for.
        tokens_per_second: positions on the time axis that a second of video takes.

    Raises:
        ValueError: its rotary positions are of a kind that cannot be moved.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        core: Any = model.model
        self._language, self._visual = core.language_model, core.visual
        self._head: Any = model.lm_head
        rotary, config = self._language.rotary_emb, self._language.config
        if rotary.rope_type not in STEADY_ROPES:
            raise ValueError(f"rotary positions of type {rotary.rope_type} are not served")
        self._rotation = Rotation(rotary.inv_freq, rotary.mrope_section)
        self._shape = (config.num_hidden_layers, config.num_key_value_heads)
        # A quantised layer's own dtype says nothing of what it computes in.
        self.dtype: torch.dtype = self._language.norm.weight.dtype
        self.device: torch.device = self._language.norm.weight.device
        self.vocabulary: int = config.vocab_size
        self.tokens_per_second: int = core.config.vision_config.tokens_per_second

    def cache(self) -> StreamingCache:
        """An empty cache."""
        return StreamingCache(*self._shape, self._rotation, self.device, self.dtype)

    def see(self, patches: Tensor, grid: Grid, merge: int) -> Tensor:
        """What the vision encoder makes of a round's frames.

        Args:
            patches: float32, see :meth:`.FrameProcessor.patches`.
            grid: of the tokens.
            merge: patches of a token's side.

        Returns:
            [grid.tokens, hidden_size] in the model's dtype.
        """
        size = [[grid.times, grid.rows * merge, grid.columns * merge]]
        pixels = patches.to(self.device, self.dtype)
        found = self._visual(pixels, grid_thw=torch.tensor(size, device=self.device))
        features: Tensor = found.pooler_output
        return features

    def read(
        self,
        ids: Sequence[int],
        positions: Tensor,
        cache: StreamingCache,
        vision: tuple[int, Tensor] | None = None,
    ) -> Tensor:
        """Append tokens to the cache.

        Args:
            ids: at least one.
            positions: float64, [tokens, 3].
            cache: with room for them.
            vision: index in ``ids`` of the first vision token, and what stands there instead of
                embeddings, [vision tokens, hidden_size].

        Returns:
            Logits of what follows the last token, float32, [vocabulary].
        """
        cache.place(positions)
        hidden = self._language.embed_tokens(torch.tensor([ids], device=self.device))
        if vision:
            first, features = vision
            hidden[0, first : first + len(features)] = features.to(hidden.dtype)
        output = self._language(
            inputs_embeds=hidden,
            # [axes, batch, tokens]; real numbers, as the rotary embedding takes them.
            position_ids=positions.T.float()[:, None].to(self.device),
            past_key_values=cache,
            use_cache=True,
        )
        logits: Tensor = self._head(output.last_hidden_state[0, -1])
        return logits.float()
