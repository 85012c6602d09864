"""Fused vectors of an item's text and image by a multimodal language model (USERec), and captions by one.

- :class:`FusedEncoder`: chat template, prompt and image through any image-text-to-text model of transformers; a hidden
  layer's states, pooled. PCA comes afterwards, over all items.
- :class:`FusedCaption`: the same conversation answered in words, which any text encoder then encodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from seqmm.features.encoders.loading import (
    choose_device,
    computing,
    find_model,
    first_line,
    load_model,
    masked_mean,
)
from seqmm.features.encoders.loading import weights_digest as digest_of
from seqmm.files import read_text
from seqmm.names import EncoderPrecision, StatePooling

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

PROMPT = Path(__file__).parent / "prompts" / "product.txt"
"""The default prompt's file."""

PLACE = "{product}"
"""Where the product's fields go in a prompt."""

MAX_CHARACTERS = 4000
"""Of a field, which is a description as a rule; the rest is cut off (about a thousand tokens)."""

MAX_SIDE = 768
"""Pixels; larger images are shrunk first, since many models make more tokens of more pixels."""

REMEDY = "Offline, give the folder of an image-text-to-text model of transformers"


@dataclass(frozen=True)
class Product:
    """What the model is told of an item; what is "" or None is left out."""

    title: str = ""
    description: str = ""
    price: str = ""
    brand: str = ""
    image: Image.Image | None = None

    def fields(self) -> str:
        """The filled fields, a line each."""
        named = (
            ("Title", self.title),
            ("Detailed description", self.description),
            ("Price", self.price),
            ("Brand", self.brand),
        )
        short = ((name, " ".join(value[:MAX_CHARACTERS].split())) for name, value in named)
        return "\n".join(f"{name}: {value}" for name, value in short if value)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to tell."""
        return self.image is None and not self.fields()


def read_prompt(file: Path | None = None) -> str:
    """A prompt's text; None = the package's.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it does not hold ``{product}`` once.
    """
    file = file or PROMPT
    if not file.is_file():
        raise FileNotFoundError(f"no prompt file {file}; expected a text with {PLACE} where the product's fields go")
    prompt = read_text(file).strip()
    if prompt.count(PLACE) != 1:
        raise ValueError(f"the prompt {file} needs {PLACE} once, where the product's fields go")
    return prompt


class _Conversation:
    """A model, its processor, and the inputs made of products."""

    def __init__(
        self,
        name: str,
        prompt: str | None,
        revision: str | None,
        device: str | None,
        dtype: EncoderPrecision,
        max_side: int,
    ):
        import torch
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.prompt = read_prompt() if prompt is None else prompt
        if self.prompt.count(PLACE) != 1:
            raise ValueError(f"the prompt needs {PLACE} once, where the product's fields go")
        self.device, self.max_side = choose_device(device), max_side
        what = "image-text-to-text model"
        source = find_model(name, what, REMEDY, revision=revision)
        # the weights themselves in bfloat16: half the memory, which is what such models are short of
        self.model, missing = load_model(
            AutoModelForImageTextToText, source, what, REMEDY, dtype=torch.bfloat16 if dtype == "bfloat16" else None
        )
        self.model.to(self.device)
        try:
            self.processor: Any = AutoProcessor.from_pretrained(source.place, revision=source.commit)
        except OSError as error:
            raise FileNotFoundError(f"cannot load the processor of {name!r}: {first_line(error)}. {REMEDY}") from error
        if not self.processor.chat_template:
            raise ValueError(f"{source.label} has no chat template; give an instruction-tuned model")
        self.provenance = {
            **source.provenance,
            "weights": digest_of(self.model, missing),
            "prompt": hashlib.sha256(self.prompt.encode()).hexdigest()[:16],
            "max_characters": str(MAX_CHARACTERS),
            "max_side": str(max_side),
            "dtype": dtype,
        }

    def inputs(self, products: Sequence[Product], side: Literal["left", "right"]) -> Any:
        """The model's inputs for products that all have an image, or all have none."""
        import torch

        self.processor.tokenizer.padding_side = side
        conversations = []
        for product in products:
            text = self.prompt.replace(PLACE, self._harmless(product.fields()))
            content: list[dict[str, Any]] = [{"type": "text", "text": text}]
            if product.image is not None:
                content.insert(0, {"type": "image", "image": _shrunk(product.image, self.max_side)})
            conversations.append([{"role": "user", "content": content}])
        inputs = self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        )
        for key, value in inputs.items():
            if isinstance(value, torch.Tensor):
                inputs[key] = value.to(self.device, self.model.dtype if value.is_floating_point() else value.dtype)
        return inputs

    def _harmless(self, text: str) -> str:
        """A seller's text with the tokenizer's control tokens taken apart: "<image>" would ask for a second image."""
        for token in sorted(self.processor.tokenizer.get_added_vocab(), key=len, reverse=True):
            if len(token) > 1 and not token.isspace():
                text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    @staticmethod
    def groups(products: Sequence[Product], size: int) -> list[list[int]]:
        """Batches of rows: with an image and without one apart, which processors do not mix."""
        kinds = [[row for row, p in enumerate(products) if (p.image is None) == bare] for bare in (False, True)]
        return [rows[start : start + size] for rows in kinds for start in range(0, len(rows), size)]


class FusedEncoder:
    """Hidden states of a multimodal language model that reads prompt, product and image, pooled over tokens.

    Args:
        name: Hub id or folder of an image-text-to-text model with a chat template.
        layer: index into the hidden states; USERec's is the second to last.
        pooling: ``mean`` over all tokens that are no padding (template, prompt and image among them), or the ``last``.
        prompt: with ``{product}`` in it; None = :data:`PROMPT`.
        batch_size: products of a batch.
        max_side: of an image.
        revision: Hub revision.
        device: torch device; None = a GPU if there is one.
        dtype: of the model's weights and its computation.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: no such layer; a model without a chat template; a prompt without ``{product}``.
    """

    def __init__(
        self,
        name: str,
        *,
        layer: int = -2,
        pooling: StatePooling = "mean",
        prompt: str | None = None,
        batch_size: int = 8,
        max_side: int = MAX_SIDE,
        revision: str | None = None,
        device: str | None = None,
        dtype: EncoderPrecision = "float32",
    ):
        if pooling not in ("mean", "last"):
            raise ValueError(f"pooling {pooling!r}: give 'mean' or 'last'")
        self.chat = _Conversation(name, prompt, revision, device, dtype, max_side)
        config = self.chat.model.config.get_text_config()
        states = config.num_hidden_layers + 1  # the embeddings, then each layer's
        if not -states <= layer < states:
            raise ValueError(f"{self.chat.provenance['encoder']} has hidden states 0 to {states - 1}, not {layer}")
        self.layer, self.pooling, self.batch_size, self.dim = layer, pooling, batch_size, int(config.hidden_size)
        self.provenance = {**self.chat.provenance, "layer": str(layer), "pooling": f"{pooling} of tokens, norm 1"}

    def __call__(self, products: Sequence[Product]) -> np.ndarray:
        """``[n, d]`` float32 of norm 1."""
        vectors = np.zeros((len(products), self.dim), np.float32)
        for rows in self.chat.groups(products, self.batch_size):
            vectors[rows] = self._encode([products[row] for row in rows])
        return vectors

    def _encode(self, products: Sequence[Product]) -> np.ndarray:
        import torch

        with computing(self.chat.device, "float32"):  # the weights say the precision, not autocast
            # padded on the right, causal attention sees no padding and positions start at 0 as in a text alone
            inputs = self.chat.inputs(products, "right")
            # without the language head: its [b, t, vocabulary] logits would be the largest tensor of all
            states = self.chat.model.base_model(**inputs, output_hidden_states=True).get("hidden_states")
            if states is None:
                raise ValueError(f"{self.provenance['encoder']} gives no hidden states of its language model")
            pooled = self._pooled(states[self.layer], inputs["attention_mask"])
            return torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()

    def _pooled(self, states: Tensor, mask: Tensor) -> Tensor:
        """``[b, t, d], [b, t] -> [b, d]`` float32, padding on either side."""
        import torch

        if states.shape[:2] != mask.shape:
            raise ValueError(
                f"{self.provenance['encoder']} makes {states.shape[1]} states of {mask.shape[1]} tokens, so padding "
                "cannot be told; use a model whose processor writes out the image's tokens"
            )
        if self.pooling == "mean":
            return masked_mean(states, mask)
        last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)  # [b]
        return states[torch.arange(len(states), device=states.device), last].float()


class FusedCaption:
    """A multimodal language model's answer to the prompt, greedily: a text for a text encoder.

    Args:
        name: Hub id or folder of an image-text-to-text model with a chat template.
        max_new_tokens: of an answer.
        prompt: with ``{product}`` in it; None = :data:`PROMPT`.
        batch_size: products of a batch.
        max_side: of an image.
        revision: Hub revision.
        device: torch device; None = a GPU if there is one.
        dtype: of the model's weights and its computation.

    ``provenance`` is to be joined with the text encoder's: its keys begin with ``caption``.

    Raises:
        FileNotFoundError: the weights cannot be had.
        ValueError: a model without a chat template; a prompt without ``{product}``.
    """

    def __init__(
        self,
        name: str,
        *,
        max_new_tokens: int = 256,
        prompt: str | None = None,
        batch_size: int = 8,
        max_side: int = MAX_SIDE,
        revision: str | None = None,
        device: str | None = None,
        dtype: EncoderPrecision = "float32",
    ):
        self.chat = _Conversation(name, prompt, revision, device, dtype, max_side)
        self.max_new_tokens, self.batch_size = max_new_tokens, batch_size
        about = {**self.chat.provenance, "tokens": str(max_new_tokens)}
        self.provenance = {"caption" if key == "encoder" else f"caption_{key}": value for key, value in about.items()}

    def __call__(self, products: Sequence[Product]) -> list[str]:
        """One text a product; "" where the model has nothing to say."""
        captions = [""] * len(products)
        for rows in self.chat.groups(products, self.batch_size):
            with computing(self.chat.device, "float32"):
                inputs = self.chat.inputs([products[row] for row in rows], "left")  # an answer follows its question
                tokens = self.chat.model.generate(
                    **inputs,
                    max_new_tokens=self.max_new_tokens,
                    do_sample=False,
                    num_beams=1,
                    temperature=None,
                    top_p=None,
                    top_k=None,
                )
            answers = tokens[:, inputs["input_ids"].shape[1] :]
            texts = self.chat.processor.batch_decode(answers, skip_special_tokens=True)
            for row, text in zip(rows, texts, strict=True):
                captions[row] = text.strip()
        return captions


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    if max(image.size) <= side:
        return image
    image = image.copy()
    image.thumbnail((side, side))
    return image
