"""Fused vectors and captions on tiny random models of two real classes: LLaVA and Qwen2-VL."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast

from seqmm.features.encoders.multimodal import (
    MAX_CHARACTERS,
    PROMPT,
    FusedCaption,
    FusedEncoder,
    Product,
    read_prompt,
)
from seqmm.features.pca import StreamingPca, project

WORDS = (
    "<pad> <unk> <s> </s> <image> <|vision_start|> <|vision_end|> <|image_pad|> <|video_pad|> user assistant : a red"
)
MORE = "toy the title price brand detailed description ball blue cheap . study of for"
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] }} : {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}IMAGE {% else %}{{ c['text'] }} {% endif %}{% endfor %}{% endfor %}"
    "{% if add_generation_prompt %}assistant : {% endif %}"
)
SHAPE = {"num_hidden_layers": 4, "num_attention_heads": 2, "num_key_value_heads": 2, "hidden_size": 16}


def tokenizer(image: str) -> PreTrainedTokenizerFast:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    words = [*WORDS.split(), *MORE.split()]
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = [word for word in words if word.startswith("<")]
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<pad>", unk_token="<unk>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=special, extra_special_tokens={"image_token": image},
    )  # fmt: skip


def save_llava(folder: Path) -> Path:
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=16
    )
    text = LlamaConfig(
        **SHAPE, vocab_size=40, intermediate_size=32, max_position_embeddings=512, pad_token_id=0, bos_token_id=2,
        eos_token_id=3,
    )  # fmt: skip
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, image_seq_length=4)
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}),
        tokenizer("<image>"),
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        image_token="<image>",
        chat_template=TEMPLATE.replace("IMAGE", "<image>"),
    ).save_pretrained(folder)
    return folder


def save_qwen(folder: Path) -> Path:
    from transformers import (
        Qwen2VLConfig,
        Qwen2VLForConditionalGeneration,
        Qwen2VLImageProcessor,
        Qwen2VLProcessor,
        Qwen2VLVideoProcessor,
    )

    torch.manual_seed(0)
    config = Qwen2VLConfig(
        text_config={
            **SHAPE, "vocab_size": 40, "intermediate_size": 32, "max_position_embeddings": 512, "pad_token_id": 0,
            "bos_token_id": 2, "eos_token_id": 3,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
        },
        vision_config={
            "depth": 2, "embed_dim": 16, "hidden_size": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 14,
            "spatial_merge_size": 2,
        },
        image_token_id=7, video_token_id=8, vision_start_token_id=5, vision_end_token_id=6,
    )  # fmt: skip
    Qwen2VLForConditionalGeneration(config).save_pretrained(folder)
    Qwen2VLProcessor(
        Qwen2VLImageProcessor(size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112}),
        tokenizer("<|image_pad|>"),
        Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>"),
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module", params=[save_llava, save_qwen], ids=["llava", "qwen2_vl"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    save: Callable[[Path], Path] = request.param
    return str(save(tmp_path_factory.mktemp("mllm") / "tiny"))


def photo(seed: int, size: tuple[int, int] = (60, 50)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


PRODUCTS = [
    Product("a red ball", "the toy of the title", "cheap", "red", photo(0)),
    Product("blue", image=photo(1, (90, 60))),
    Product("a blue toy", "description of a ball . " * 8),
    Product("toy"),
    Product("", "", "", "", photo(2)),
]
PLAIN = "study the {product} a toy"


def direct(folder: str, product: Product, layer: int, pooling: str, prompt: str) -> np.ndarray:
    """One product by the whole model, without a batch, a mask or a helper of the package."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model, processor = AutoModelForImageTextToText.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
    content: list[dict] = [] if product.image is None else [{"type": "image"}]
    names = {"Title": "title", "Detailed description": "description", "Price": "price", "Brand": "brand"}
    lines = [f"{name}: {getattr(product, field).strip()}" for name, field in names.items() if getattr(product, field)]
    content.append({"type": "text", "text": prompt.replace("{product}", "\n".join(lines))})
    text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    images = None if product.image is None else [product.image]
    inputs = processor(text=[text], images=images, return_tensors="pt")
    with torch.inference_mode():
        states = model(**inputs, output_hidden_states=True).hidden_states[layer][0]
    vector = states.mean(0) if pooling == "mean" else states[-1]
    return (vector / vector.norm()).numpy()


@pytest.mark.parametrize(("layer", "pooling"), [(-2, "mean"), (-1, "mean"), (-2, "last"), (1, "mean")])
def test_vectors_equal_direct_calls(folder: str, layer: int, pooling: str) -> None:
    encoder = FusedEncoder(folder, layer=layer, pooling=pooling, prompt=PLAIN, device="cpu")  # type: ignore[arg-type]
    vectors = encoder(PRODUCTS)
    expected = np.stack([direct(folder, product, layer, pooling, PLAIN) for product in PRODUCTS])
    np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert vectors.shape == (5, encoder.dim) and vectors.dtype == np.float32
    assert np.abs(vectors[3] - vectors[1]).max() > 1e-3 and np.array_equal(vectors, encoder(PRODUCTS))


def test_padding_on_either_side_gives_the_same_vectors(folder: str) -> None:
    encoder = FusedEncoder(folder, prompt=PLAIN, device="cpu")
    for pooling in ("mean", "last"):
        encoder.pooling = pooling  # type: ignore[assignment]
        alone = np.concatenate([encoder([product]) for product in PRODUCTS])
        np.testing.assert_allclose(encoder(PRODUCTS), alone, atol=1e-5)
        make = encoder.chat.inputs
        encoder.chat.inputs = lambda products, side, make=make: make(products, "left")  # type: ignore[method-assign]
        masks = encoder.chat.inputs(PRODUCTS[2:4], "right")["attention_mask"]
        assert masks[1, 0] == 0 and masks[1, -1] == 1
        np.testing.assert_allclose(encoder(PRODUCTS), alone, atol=1e-5)
        encoder.chat.inputs = make  # type: ignore[method-assign]


def test_pca_of_the_vectors_by_hand(folder: str) -> None:
    products = [Product(title, image=photo(k)) for k, title in enumerate(["a red toy", "ball", "blue", "cheap", "of"])]
    encoder = FusedEncoder(folder, prompt=PLAIN, device="cpu")
    vectors, stream = encoder(products), StreamingPca(3)
    stream.update(vectors[:2])
    stream.update(vectors[2:])
    mean, components, _ = stream.finish()
    u, s, _ = np.linalg.svd(vectors - vectors.mean(0, dtype=np.float64), full_matrices=False)
    np.testing.assert_allclose(np.abs(project(vectors, mean, components)), np.abs(u[:, :3] * s[:3]), atol=1e-6)


def test_a_sellers_text_cannot_write_control_tokens(folder: str) -> None:
    encoder = FusedEncoder(folder, prompt=PLAIN, device="cpu")
    tokens = "<image> <|image_pad|> <|vision_start|> </s>"
    vectors = encoder([Product(f"a toy {tokens}", image=photo(0)), Product(tokens)])
    assert np.isfinite(vectors).all()
    inputs = encoder.chat.inputs([Product(tokens)], "right")["input_ids"]
    assert not {3, 4, 5, 7} & set(inputs[0].tolist())


def test_provenance_and_precision(folder: str) -> None:
    encoder = FusedEncoder(folder, prompt=PLAIN, device="cpu")
    about = encoder.provenance
    assert about["encoder"] == "tiny" and about["layer"] == "-2" and folder not in str(about)
    assert about["prompt"] == hashlib.sha256(PLAIN.encode()).hexdigest()[:16]
    assert FusedEncoder(folder, device="cpu").provenance["prompt"] != about["prompt"]
    rough = FusedEncoder(folder, prompt=PLAIN, device="cpu", dtype="bfloat16")
    assert rough.provenance["dtype"] == "bfloat16"
    difference = np.abs(rough(PRODUCTS) - encoder(PRODUCTS)).max()
    assert 0 < difference < 0.05 and rough(PRODUCTS).dtype == np.float32


def test_captions_are_greedy(folder: str) -> None:
    from transformers import AutoModelForImageTextToText

    caption = FusedCaption(folder, prompt=PLAIN, max_new_tokens=5, device="cpu")
    texts = caption(PRODUCTS)
    assert len(texts) == 5 and all(isinstance(text, str) for text in texts) and any(texts)
    assert texts == [caption([product])[0] for product in PRODUCTS]  # left padding changes nothing
    model = AutoModelForImageTextToText.from_pretrained(folder).eval()
    inputs = caption.chat.inputs(PRODUCTS[:1], "left")
    start, ids = inputs["input_ids"].shape[1], inputs["input_ids"]
    rest = {
        key: value for key, value in inputs.items() if key not in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    for _ in range(5):  # the loop by hand, without a cache
        extra = {"mm_token_type_ids": (ids == 7).long()} if "mm_token_type_ids" in inputs else {}
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), **rest, **extra).logits[0, -1]
        ids = torch.cat([ids, logits.argmax()[None, None]], 1)
        if ids[0, -1] == 3:
            break
    assert texts[0] == caption.chat.processor.decode(ids[0, start:], skip_special_tokens=True).strip()
    assert caption.provenance["caption"] == "tiny" and caption.provenance["caption_tokens"] == "5"


def test_what_a_model_does_not_have(folder: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="has hidden states 0 to 4, not -6"):
        FusedEncoder(folder, layer=-6)
    with pytest.raises(ValueError, match="pooling 'max': give 'mean' or 'last'"):
        FusedEncoder(folder, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs {product} once"):
        FusedEncoder(folder, prompt="no place")
    with pytest.raises(FileNotFoundError, match="no folder ./nowhere with a image-text-to-text model"):
        FusedEncoder("./nowhere")


def test_only_filled_fields_are_named() -> None:
    product = Product(" Red\n ball ", "", "  ", "ACME")
    assert product.fields() == "Title: Red ball\nBrand: ACME"
    assert product.empty is False and Product(" ", "\n").empty and not Product(image=photo(0)).empty
    for name in ("title", "description", "price", "brand"):
        assert len(Product(**{name: "x" * 100_000}).fields()) < MAX_CHARACTERS + 30


def test_prompt_files(tmp_path: Path) -> None:
    text = read_prompt()
    assert text.count("{product}") == 1 and len(text.split("\n\n")) == 5  # four blocks, the first with the product
    file = tmp_path / "mine.txt"
    file.write_text("What is this?\n{product}\n")
    assert read_prompt(file) == "What is this?\n{product}"
    file.write_text("What is this?")
    with pytest.raises(ValueError, match=r"mine\.txt needs {product} once"):
        read_prompt(file)
    with pytest.raises(FileNotFoundError, match="no prompt file"):
        read_prompt(tmp_path / "none.txt")
    assert PROMPT.is_file()
