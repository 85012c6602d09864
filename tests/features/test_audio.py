"""Waveforms and tiny random audio models of real classes."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from seqmm.features.encoders.audio import AudioEncoder
from seqmm.features.readers.sounds import AudioFiles, waveform

soundfile = pytest.importorskip("soundfile", reason="the extra audio is not installed")

RATE = 16_000


def tone(seconds: float, rate: int = RATE, pitch: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def sound(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", **options: str) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, samples, rate, format=kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG"])
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_waveform_is_one_channel_at_the_rate_asked_for(kind: str, rate: int) -> None:
    left, right = tone(1.0, rate), tone(1.0, rate) / 2
    samples = waveform(sound(np.stack([left, right], 1), rate, kind), RATE)
    assert samples.shape == (RATE,) and samples.dtype == np.float32
    error = np.abs(samples - tone(1.0) * 0.75)[500:-500]  # a resampling filter rings at the ends
    assert error.max() < (0.05 if kind == "OGG" else 0.005)


def test_long_sounds_are_cut_and_short_ones_looped() -> None:
    content = sound(tone(3.0), subtype="FLOAT")
    np.testing.assert_array_equal(waveform(content, RATE, seconds=2), tone(2.0))
    assert len(waveform(content, RATE, seconds=5)) == 3 * RATE
    looped = waveform(content, RATE, seconds=5, loop=True)
    np.testing.assert_array_equal(looped, np.concatenate([tone(3.0), tone(2.0)]))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a readable sound: the file is empty"),
        (b"<html>404</html>", "not a readable sound: "),
        (sound(tone(1.0))[:30], "not a readable sound: "),
        (sound(tone(0.05)), r"0\.050 s of sound, less than 0\.1 s"),
        (sound(tone(0.0)), r"0\.000 s of sound"),
        (sound(tone(1.0), 5_000_000), r"5000000 samples a second; 1000 to 768,000 can be used"),
        (sound(np.full(RATE, np.nan, np.float32), subtype="FLOAT"), "samples that are not finite"),
    ],
)
def test_waveform_refuses_with_a_reason(content: bytes, reason: str) -> None:
    reasons = set()
    for _ in range(2):
        with pytest.raises(ValueError, match=f"^{reason}") as error:
            waveform(content, RATE)
        reasons.add(str(error.value))
    assert len(reasons) == 1


def test_audio_files_by_item_id(tmp_path: Path) -> None:
    (tmp_path / "a%2Fb.wav").write_bytes(sound(tone(1.0)))
    (tmp_path / "c.jpg").write_bytes(b"")
    files = AudioFiles([tmp_path], items=["a/b", "c"])
    assert not files.places("c") and len(files) == 1
    assert len(waveform(files.open(files.places("a/b")[0]), RATE)) == RATE


def test_without_soundfile_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ValueError, match=r'pip install "seqmm\[audio\]"'):
        waveform(b"RIFF", RATE)


SHAPE = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


def audio_model(folder: Path, kind: str) -> Path:
    """A tiny random model with its feature extractor, as transformers saves them."""
    import transformers as t

    torch.manual_seed(0)
    extractor = t.Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=kind == "hubert")
    waves = {**SHAPE, "conv_dim": (8, 8, 8), "conv_kernel": (10, 3, 3), "conv_stride": (5, 4, 4)}
    waves |= {"num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    if kind == "wav2vec2":
        t.Wav2Vec2Model(t.Wav2Vec2Config(**waves)).save_pretrained(folder)
    elif kind == "hubert":
        t.HubertModel(t.HubertConfig(**waves, feat_extract_norm="layer")).save_pretrained(folder)
    elif kind == "whisper":
        config = t.WhisperConfig(
            d_model=16, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
            encoder_ffn_dim=32, decoder_ffn_dim=32, vocab_size=50, num_mel_bins=80, pad_token_id=0, bos_token_id=1,
            eos_token_id=2, decoder_start_token_id=1,
        )  # fmt: skip
        t.WhisperModel(config).save_pretrained(folder)
        extractor = t.WhisperFeatureExtractor()
    elif kind == "ast":
        config = t.ASTConfig(**SHAPE, num_mel_bins=32, max_length=100)
        t.ASTModel(config).save_pretrained(folder)
        extractor = t.ASTFeatureExtractor(num_mel_bins=32, max_length=100)
    else:
        config = t.ClapConfig(
            text_config={**SHAPE, "vocab_size": 50},
            audio_config={
                "patch_embeds_hidden_size": 8, "hidden_size": 64, "depths": [1, 1, 1, 1], "num_hidden_layers": 4,
                "num_attention_heads": [2, 2, 2, 2],
            },
            projection_dim=16,
        )  # fmt: skip
        t.ClapModel(config).save_pretrained(folder)
        extractor = t.ClapFeatureExtractor(truncation="rand_trunc")
    extractor.save_pretrained(folder)
    return folder


SOUNDS = [tone(1.0), tone(0.7, pitch=200), tone(1.0, pitch=1000), tone(0.4, pitch=90)]


@pytest.mark.parametrize(("kind", "layer"), [("wav2vec2", -1), ("wav2vec2", -2), ("hubert", -1), ("hubert", 1)])
def test_mean_over_frames_equals_direct_calls(tmp_path: Path, kind: str, layer: int) -> None:
    """Each sound alone, so that nothing is padded; wav2vec 2.0 base was trained without a mask."""
    from transformers import AutoModel

    encoder = AudioEncoder(str(audio_model(tmp_path, kind)), layer=layer, device="cpu")
    vectors = encoder(SOUNDS)
    model = AutoModel.from_pretrained(tmp_path).eval()
    for samples, vector in zip(SOUNDS, vectors, strict=True):
        wave = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
        with torch.inference_mode():
            output = model(torch.from_numpy(wave)[None], output_hidden_states=True)
        states = output.last_hidden_state if layer == -1 else output.hidden_states[layer]
        np.testing.assert_allclose(vector, states[0].mean(0).numpy(), atol=1e-5)
    assert vectors.shape == (4, encoder.dim) and np.array_equal(vectors, encoder(SOUNDS))
    assert str(tmp_path) not in str(encoder.provenance) and encoder.provenance["layer"] == str(layer)


def test_whisper_means_over_the_sounds_own_frames(tmp_path: Path) -> None:
    from transformers import AutoFeatureExtractor, WhisperModel

    encoder = AudioEncoder(str(audio_model(tmp_path, "whisper")), device="cpu")
    vectors = encoder(SOUNDS)
    model = WhisperModel.from_pretrained(tmp_path).get_encoder().eval()
    extractor = AutoFeatureExtractor.from_pretrained(tmp_path)
    for samples, vector in zip(SOUNDS, vectors, strict=True):
        features = extractor(samples, sampling_rate=RATE, return_tensors="pt").input_features  # 30 s
        with torch.inference_mode():
            states = model(features).last_hidden_state[0]  # 1,500 of 20 ms
        np.testing.assert_allclose(vector, states[: round(len(samples) / 320)].mean(0).numpy(), atol=1e-5)
    with pytest.raises(ValueError, match="hears 30 s at a time, not 60"):
        AudioEncoder(str(tmp_path), seconds=60)


@pytest.mark.parametrize("kind", ["ast", "clap"])
def test_the_models_own_pooling(tmp_path: Path, kind: str) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    folder = audio_model(tmp_path, kind)
    with pytest.raises(ValueError, match="is not known; give pooling 'pooler'"):
        AudioEncoder(str(folder))
    encoder = AudioEncoder(str(folder), pooling="pooler", device="cpu")
    sounds = [np.resize(samples, encoder.rate) for samples in SOUNDS]
    vectors = encoder(sounds)
    extractor = AutoFeatureExtractor.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()
    for samples, vector in zip(sounds, vectors, strict=True):
        inputs = extractor(samples, sampling_rate=encoder.rate, return_tensors="pt")
        with torch.inference_mode():
            expected = (model.audio_model if kind == "clap" else model)(**inputs).pooler_output[0]
        np.testing.assert_allclose(vector, expected.numpy(), atol=1e-5)


def test_a_random_feature_extractor_is_refused(tmp_path: Path) -> None:
    from transformers import ClapFeatureExtractor

    audio_model(tmp_path, "clap")
    ClapFeatureExtractor(truncation="fusion").save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="drawn at random, as a long one; give a CLAP without fusion"):
        AudioEncoder(str(tmp_path), pooling="pooler")


def test_what_a_model_does_not_have(tmp_path: Path) -> None:
    folder = audio_model(tmp_path, "wav2vec2")
    with pytest.raises(ValueError, match="has no layer -9"):
        AudioEncoder(str(folder), layer=-9)
    with pytest.raises(ValueError, match="has no pooler; give pooling 'mean'"):
        AudioEncoder(str(folder), pooling="pooler")
    with pytest.raises(FileNotFoundError, match="no folder ./nowhere with a audio encoder"):
        AudioEncoder("./nowhere")


def test_a_header_with_too_many_channels():
    import struct

    rate, channels = 8000, 200
    data = bytes(2 * channels * rate // 4)
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, channels, rate,
                       rate * channels * 2, channels * 2, 16, b"data", len(data))  # fmt: skip
    with pytest.raises(ValueError, match="200 channels, more than 64"):
        waveform(head + data, rate)
