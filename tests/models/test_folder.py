"""Model folders: what is written is read again, what is wrong is named."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from longtake.models import folder as model_folder
from longtake.models.folder import (
    folder_digest,
    load_weights,
    read_config,
    read_json,
    read_tensors,
    save_weights,
    taking,
    write_json,
)
from longtake.models.quantization import quantize
from longtake.streaming import StreamError


class Tied(nn.Module):
    """Two linear layers and a vector; the layers may share a weight."""

    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.vector = nn.Parameter(torch.randn(3))
        if tied:
            self.second.weight = self.first.weight


@dataclass(frozen=True)
class Config:
    """Some sizes."""

    width: int
    rates: tuple[float, ...]
    name: str = "plain"

    def __post_init__(self) -> None:
        if self.width % 2:
            raise ValueError(f"width is {self.width}; it has to be even")


@pytest.fixture
def saved(tmp_path):
    """A folder with a module's weights, and the module."""
    module = Tied()
    save_file(dict(module.named_parameters()), tmp_path / "model.safetensors")
    return tmp_path, module


@pytest.fixture
def refused():
    """Checks that a call is refused as a bad model, in one sentence that holds some words."""

    def check(call, *words: str) -> None:
        with pytest.raises(StreamError) as caught:
            call()
        assert caught.value.code == "bad_model"
        for word in words:
            assert word in caught.value.message
        assert "\n" not in str(caught.value)
        assert caught.value.hint

    return check


def fill(folder, module=None, dtype=torch.float32):
    """Load into a module made on the meta device."""
    with torch.device("meta"):
        empty = module or Tied()
    return load_weights(empty, folder, dtype)


def rewrite(folder, change):
    """Change the tensors of the only file of a folder."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_load_as_saved_frozen_and_in_evaluation_mode(dtype, saved):
    folder, module = saved
    loaded = fill(folder, dtype=dtype)
    for name, parameter in loaded.named_parameters():
        assert torch.equal(parameter, module.get_parameter(name).to(dtype))
        assert parameter.dtype == dtype
        assert not parameter.requires_grad
    assert not loaded.training


def test_a_module_that_has_weights_already_can_be_filled(saved):
    folder, module = saved
    loaded = load_weights(Tied(), folder, torch.float32)
    assert torch.equal(loaded.first.weight, module.first.weight)


def test_missing_tensor_is_named(saved, refused):
    folder, _ = saved
    rewrite(folder, lambda tensors: tensors.pop("vector"))
    refused(lambda: fill(folder), str(folder), "vector")
    rewrite(folder, lambda tensors: tensors.pop("second.weight"))
    refused(lambda: fill(folder), "vector", "1 more")


def test_extra_tensor_is_named(saved, refused):
    folder, _ = saved
    rewrite(folder, lambda tensors: tensors.update(third=torch.ones(1)))
    refused(lambda: fill(folder), str(folder), "third")


@pytest.mark.parametrize("shape", [(4,), (3, 1), (1,), ()])
def test_wrong_shape_is_named(shape, saved, refused):
    folder, _ = saved
    rewrite(folder, lambda tensors: tensors.update(vector=torch.ones(shape)))
    refused(lambda: fill(folder), "vector", str(list(shape)), "[3]")


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool])
def test_whole_numbers_without_a_scale_are_named(dtype, saved, refused):
    folder, _ = saved
    rewrite(folder, lambda tensors: tensors.update(vector=torch.ones(3, dtype=dtype)))
    refused(lambda: fill(folder), "vector", "scale")


def test_quantised_weights_load(saved):
    folder, module = saved
    save_weights(quantize(dict(module.named_parameters())), folder, "model")
    loaded = fill(folder)
    torch.testing.assert_close(loaded.first.weight, module.first.weight.data, rtol=0, atol=0.01)
    assert loaded.first.weight.dtype == torch.float32


@pytest.mark.parametrize("lost", ["first.weight", "first.weight_scale"])
def test_half_of_a_quantised_pair_is_named(lost, saved, refused):
    folder, module = saved
    stored = quantize(dict(module.named_parameters()))
    del stored[lost]
    save_weights(stored, folder, "model")
    refused(lambda: fill(folder), "first.weight")


def test_scale_beside_a_weight_in_floats_is_named(saved, refused):
    folder, _ = saved
    rewrite(folder, lambda tensors: tensors.update({"first.weight_scale": torch.ones(4, 1)}))
    refused(lambda: fill(folder), "first.weight_scale")


def test_scale_of_the_wrong_shape_is_named(saved, refused):
    folder, module = saved
    stored = quantize(dict(module.named_parameters()))
    stored["first.weight_scale"] = stored["first.weight_scale"].T.contiguous()
    save_weights(stored, folder, "model")
    refused(lambda: fill(folder), "first.weight", "[1, 4]")


def test_a_tensor_in_two_files_is_named(saved, refused):
    folder, _ = saved
    save_file({"vector": torch.ones(3)}, folder / "model.fp16.safetensors")
    refused(lambda: fill(folder), "vector", "twice")


@pytest.mark.parametrize(
    "names",
    [["first.weight"], ["second.weight"], ["first.weight", "second.weight"]],
    ids=["once", "under the other name", "twice"],
)
def test_tied_weights_load_however_they_are_stored(names, tmp_path):
    weight = torch.randn(4, 4)
    tensors = {name: weight.clone() for name in names} | {"vector": torch.ones(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    with torch.device("meta"):
        module = Tied(tied=True)
    loaded = fill(tmp_path, module)
    assert torch.equal(loaded.first.weight, weight)


def test_truncated_file_is_named(saved, refused):
    folder, _ = saved
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 4, 8, 40, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(lambda: fill(folder), str(path))
    path.write_bytes(b"PK\x03\x04" + whole)
    refused(lambda: fill(folder), str(path))


def test_missing_folder_and_folder_without_weights_are_named(tmp_path, refused):
    refused(lambda: fill(tmp_path / "nowhere"), "nowhere")
    refused(lambda: fill(tmp_path), str(tmp_path))


@pytest.fixture
def big():
    """Quantised weights of a few shards."""
    torch.manual_seed(0)
    tensors = {f"{index:02}.weight": torch.randn(1500, 1000) for index in range(24)}
    return quantize(tensors | {"00.bias": torch.randn(5)})


def test_shards_are_small_and_the_index_says_where_each_tensor_is(big, tmp_path):
    save_weights(big, tmp_path, "model")
    files = sorted(tmp_path.glob("*.safetensors"))
    assert [path.name for path in files] == [
        f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)
    ]
    assert all(path.stat().st_size < 15_000_000 for path in files)
    index = read_json(tmp_path / "model.safetensors.index.json")
    where = {name: path.name for path in files for name in load_file(path)}
    assert index["weight_map"] == where
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in big.values())
    read = dict(read_tensors(tmp_path))
    assert read.keys() == big.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in big.items())


@pytest.mark.parametrize("limit", range(60, 300, 15))
def test_a_weight_and_its_scale_are_never_parted(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "SHARD_BYTES", limit)
    tensors = {f"{index}.weight": torch.randn(5, 10) for index in range(6)}
    save_weights(quantize(tensors), tmp_path, "model")
    for path in tmp_path.glob("*.safetensors"):
        names = set(load_file(path))
        assert names
        assert {f"{name.removesuffix('_scale')}_scale" for name in names} <= names


def test_a_small_model_is_one_file_without_an_index(tmp_path):
    save_weights({"a": torch.ones(3)}, tmp_path / "new" / "part", "model")
    assert [path.name for path in (tmp_path / "new" / "part").iterdir()] == ["model.safetensors"]


def test_no_shard_is_empty_where_one_tensor_fills_it(tmp_path, monkeypatch):
    monkeypatch.setattr(model_folder, "SHARD_BYTES", 100)
    save_weights({"a": torch.ones(50), "b": torch.ones(2)}, tmp_path, "model")
    assert [len(load_file(path)) for path in sorted(tmp_path.glob("*.safetensors"))] == [1, 1]


def test_saving_again_leaves_nothing_of_before(big, tmp_path):
    small = {"a": torch.ones(3)}
    save_file(small, tmp_path / "other.safetensors")
    for tensors in (big, small, big):
        save_weights(tensors, tmp_path, "model")
        assert dict(read_tensors(tmp_path)).keys() - {"a"} == tensors.keys() - {"a"}
    assert (tmp_path / "other.safetensors").exists()


def test_missing_shard_is_named(big, tmp_path, refused):
    save_weights(big, tmp_path, "model")
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    refused(lambda: list(read_tensors(tmp_path)), "model-00002-of-00003.safetensors")


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": None}], ids=str)
def test_broken_index_is_named(index, saved, refused):
    folder, _ = saved
    write_json(folder / "model.safetensors.index.json", index)
    refused(lambda: fill(folder), "model.safetensors.index.json", "weight_map")


@pytest.mark.parametrize("name", ["../elsewhere.safetensors", 5, None], ids=str)
def test_index_cannot_point_out_of_the_folder(name, saved, refused):
    folder, _ = saved
    write_json(folder / "model.safetensors.index.json", {"weight_map": {"a": name}})
    refused(lambda: fill(folder), "does not exist")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"3", b"null", b'"a"', b"\xff\xfe\x00", b"{'a': 1}", b"\x00"]
)
def test_what_is_no_json_object_is_named(content, tmp_path, refused):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    refused(lambda: read_json(path), str(path))
    refused(lambda: read_config(path, Config), str(path))


def test_missing_json_and_a_folder_in_its_place_are_named(tmp_path, refused):
    refused(lambda: read_json(tmp_path / "config.json"), "config.json", "does not exist")
    refused(lambda: read_json(tmp_path), str(tmp_path))


def test_config_is_read_and_notes_of_other_tools_are_skipped(tmp_path):
    path = tmp_path / "config.json"
    notes = {"_class_name": "X", "_diffusers_version": "0", "quantization_config": {"any": 1}}
    write_json(path, {"width": 8, "rates": [1, 2.5]} | notes)
    assert read_config(path, Config) == Config(8, (1.0, 2.5))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"wdith": 8}, "wdith"),
        ({"width": "wide"}, "width"),
        ({"width": None}, "width"),
        ({"width": 8.5}, "width"),
        ({"width": [8]}, "width"),
        ({"rates": 3}, "rates"),
        ({"rates": ["x"]}, "rates"),
        ({"rates": {"a": 1}}, "rates"),
        ({"name": 5}, "name"),
        ({"width": 7}, "width is 7; it has to be even"),
    ],
    ids=str,
)
def test_unfit_field_of_a_config_is_named(change, named, tmp_path, refused):
    path = tmp_path / "config.json"
    write_json(path, {"width": 8, "rates": [1.0]} | change)
    refused(lambda: read_config(path, Config), str(path), named)


def test_missing_field_of_a_config_is_named(tmp_path, refused):
    path = tmp_path / "config.json"
    write_json(path, {"width": 8})
    refused(lambda: read_config(path, Config), "rates")


def test_json_is_written_to_be_read_by_anyone(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None, "ü"]})
    text = (tmp_path / "a.json").read_text("utf-8")
    assert text.endswith("}\n")
    assert json.loads(text) == {"a": [1, None, "ü"]}


def test_digest_follows_names_and_contents(saved):
    folder, _ = saved
    write_json(folder / "config.json", {"a": 1})
    first = folder_digest(folder)
    assert first == folder_digest(folder)
    assert len(first) == 64
    (folder / "README.md").write_text("said of the model, not part of it")
    assert folder_digest(folder) == first
    seen = {first}
    write_json(folder / "config.json", {"a": 2})
    seen.add(folder_digest(folder))
    (folder / "config.json").rename(folder / "other.json")
    seen.add(folder_digest(folder))
    rewrite(folder, lambda tensors: tensors.update(vector=torch.zeros(3)))
    seen.add(folder_digest(folder))
    (folder / "part").mkdir()
    (folder / "other.json").rename(folder / "part" / "other.json")
    seen.add(folder_digest(folder))
    assert len(seen) == 5


def test_a_file_is_not_blamed_for_a_lack_of_memory(tmp_path):
    with pytest.raises(MemoryError), taking(tmp_path):
        raise MemoryError
