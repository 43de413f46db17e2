"""Pickles in the published forms, written from our networks with stub classes of their names.

An independent second description of the published forms: module trees and TensorFlow variables
are built from our state dicts, the other way round than training/published*.py reads them.
"""

import collections
import contextlib
import pickle
import sys
import types

import numpy as np
import torch

EVIL_SOURCE = 'raise RuntimeError("source embedded in a pickle was executed")'
_HEAD_CLASSES = {"rgb": ("torgb", "ToRGBLayer"), "nir": ("toseg", "ToSEGLayer")}


def _reconstruct_persistent_obj(meta):
    raise RuntimeError(f"executed a {meta['class_name']}")


_reconstruct_persistent_obj.__module__ = "torch_utils.persistence"


class EasyDict(dict):
    __module__ = "dnnlib.util"


class Network:
    __module__ = "dnnlib.tflib.network"

    def __init__(self, **state):
        self.__dict__.update(state)


class Persistent:
    """Pickles like an instance of a persistent class."""

    def __init__(self, class_name, **state):
        self.class_name, self.state = class_name, state

    def __reduce__(self):
        meta = {
            "type": "class",
            "version": 6,
            "module_src": EVIL_SOURCE,
            "class_name": self.class_name,
            "state": self.state,
        }
        return _reconstruct_persistent_obj, (meta,)


def dumps(value, protocol=4):
    """Pickle a value that holds the stubs of this module."""
    with _stub_modules():
        return pickle.dumps(value, protocol=protocol)


@contextlib.contextmanager
def _stub_modules():
    members = {
        "torch_utils.persistence": _reconstruct_persistent_obj,
        "dnnlib.util": EasyDict,
        "dnnlib.tflib": None,
        "dnnlib.tflib.network": Network,
    }
    for name, member in members.items():
        module = types.ModuleType(name)
        if member is not None:
            setattr(module, member.__name__, member)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in members:
            del sys.modules[name]


def module(class_name, tensors=None, modules=None, init_kwargs=None, **attributes):
    """Return a persistent torch module with the attributes that nn.Module keeps."""
    tensors = tensors or {}
    return Persistent(
        class_name,
        training=False,
        _parameters={
            name: torch.nn.Parameter(tensor, requires_grad=False)
            for name, tensor in tensors.items()
            if name not in ("w_avg", "noise_const", "resample_filter")
        },
        _buffers={
            name: tensor
            for name, tensor in tensors.items()
            if name in ("w_avg", "noise_const", "resample_filter")
        },
        _non_persistent_buffers_set=set(),
        _backward_hooks=collections.OrderedDict(),
        _modules=modules or {},
        weight_gain=np.float64(0.5),
        _init_args=(),
        _init_kwargs=EasyDict(init_kwargs or {}),
        **attributes,
    )


def own_tensors(state, prefix):
    """Return the entries of a state dict that lie directly under `prefix`."""
    names = [name for name in state if name.startswith(prefix) and "." not in name[len(prefix) :]]
    return {name[len(prefix) :]: state[name].clone() for name in names}


def generator_tree(generator):
    """Return our generator as a published module tree."""
    config, state = generator.config, generator.state_dict()
    blocks = {
        f"b{side}": _synthesis_block(config, state, side) for side in config.block_resolutions
    }
    sizes = {
        "channel_base": config.channel_base,
        "channel_max": config.channel_max,
        "num_fp16_res": config.num_fp16_res,
    }
    return module(
        "Generator",
        modules={
            "synthesis": module("SynthesisNetwork", modules=blocks, init_kwargs=sizes),
            "mapping": _mapping(config.mapping, state),
        },
        z_dim=config.z_dim,
        c_dim=config.c_dim,
        w_dim=config.w_dim,
        img_resolution=config.resolution,
        img_channels=3,
    )


def _synthesis_block(config, state, side):
    prefix = f"synthesis.blocks.b{side}."
    layers = {}
    for name in ("conv0", "conv1"):
        if f"{prefix}{name}.weight" in state:
            layers[name] = module(
                "SynthesisLayer",
                own_tensors(state, f"{prefix}{name}."),
                {"affine": _dense(state, f"{prefix}{name}.affine.")},
                use_noise=config.use_noise,
                activation=config.activation,
                conv_clamp=config.conv_clamp,
            )
    for head, (name, class_name) in _HEAD_CLASSES.items():
        if f"{prefix}heads.{head}.weight" in state:
            layers[name] = module(
                class_name,
                own_tensors(state, f"{prefix}heads.{head}."),
                {"affine": _dense(state, f"{prefix}heads.{head}.affine.")},
            )
    if f"{prefix}skip.weight" in state:
        layers["skip"] = module("Conv2dLayer", own_tensors(state, f"{prefix}skip."))
    return module(
        "SynthesisBlock",
        {**own_tensors(state, prefix), "resample_filter": torch.ones(4, 4)},
        layers,
        {"resample_filter": list(config.resample_filter)},
        architecture=config.architecture.value,
        use_fp16=config.is_half_at(side),
    )


def _dense(state, prefix, activation="linear"):
    return module("FullyConnectedLayer", own_tensors(state, prefix), activation=activation)


def _mapping(config, state):
    layers = {
        f"fc{index}": _dense(state, f"mapping.fc{index}.", config.activation)
        for index in range(config.layers)
    }
    if "mapping.embed.weight" in state:
        layers["embed"] = _dense(state, "mapping.embed.")
    return module(
        "MappingNetwork",
        own_tensors(state, "mapping."),
        layers,
        {
            "embed_features": config.embed_features,
            "layer_features": config.layer_features,
            "lr_multiplier": config.lr_multiplier,
        },
        num_layers=config.layers,
        w_avg_beta=config.w_avg_beta if "mapping.w_avg" in state else None,
    )


def discriminator_tree(discriminator):
    """Return our discriminator as a published module tree."""
    config, state = discriminator.config, discriminator.state_dict()

    def convolution(name):
        return module(
            "Conv2dLayer",
            own_tensors(state, f"{name}."),
            activation=config.activation,
            conv_clamp=config.conv_clamp,
        )

    def layers_in(prefix, names):
        return {
            theirs: convolution(f"{prefix}{ours}")
            for ours, theirs in names.items()
            if f"{prefix}{ours}.weight" in state
        }

    names = {"from_image": "fromrgb", "conv0": "conv0", "conv1": "conv1", "skip": "skip"}
    modules = {
        f"b{side}": module(
            "DiscriminatorBlock",
            modules=layers_in(f"blocks.b{side}.", names),
            init_kwargs={"resample_filter": list(config.resample_filter)},
            architecture=config.architecture.value,
            use_fp16=config.is_half_at(side),
        )
        for side in config.block_resolutions
    }
    epilogue = layers_in("epilogue.", {"from_image": "fromrgb", "conv": "conv"})
    epilogue |= {"fc": _dense(state, "epilogue.fc."), "out": _dense(state, "epilogue.out.")}
    if config.mbstd_num_channels:
        epilogue["mbstd"] = module(
            "MinibatchStdLayer",
            group_size=config.mbstd_group_size,
            num_channels=config.mbstd_num_channels,
        )
    modules["b4"] = module(
        "DiscriminatorEpilogue", modules=epilogue, architecture=config.architecture.value
    )
    if config.c_dim:
        modules["mapping"] = _mapping(config.mapping, state)
    return module(
        "Discriminator",
        modules=modules,
        init_kwargs={
            "channel_base": config.channel_base,
            "channel_max": config.channel_max,
            "cmap_dim": config.cmap_dim,
        },
        c_dim=config.c_dim,
        img_resolution=config.resolution,
        img_channels=config.channels,
    )


def tensorflow_generator(generator, **static_kwargs):
    """Return our single-branch generator in the TensorFlow form."""
    config, state = generator.config, generator.state_dict()
    mapping, synthesis = [], []
    for name, tensor in state.items():
        value, parts = tensor.numpy().astype(np.float32), name.split(".")
        if parts[0] == "mapping" and parts[1] != "w_avg":
            layer = parts[1].replace("fc", "Dense").replace("embed", "LabelEmbed")
            mapping.append((f"{layer}/{parts[2]}", value.T if value.ndim == 2 else value))
        elif parts[0] == "synthesis":
            synthesis.append(_synthesis_variable(parts[2:], value))
    kwargs = {
        "resolution": config.resolution,
        "latent_size": config.z_dim,
        "label_size": config.c_dim,
        "dlatent_size": config.w_dim,
        "mapping_layers": config.mapping.layers,
        "fmap_base": config.channel_base // 2,
        "fmap_max": config.channel_max,
        "truncation_psi": 0.5,
        **static_kwargs,
    }
    return _network(
        kwargs,
        [("dlatent_avg", state["mapping.w_avg"].numpy()), ("lod", np.float32(0))],
        {"mapping": _network({}, mapping), "synthesis": _network({}, synthesis)},
    )


def tensorflow_discriminator(discriminator):
    """Return our discriminator in the TensorFlow form."""
    config, variables = discriminator.config, []
    layers = {"from_image": "FromRGB", "conv0": "Conv0", "conv1": "Conv1_down", "skip": "Skip"}
    for name, tensor in discriminator.state_dict().items():
        value, parts = _to_tensorflow(tensor.numpy()), name.split(".")
        if parts[0] == "blocks":
            side = parts[1][1:]
            variables.append((f"{side}x{side}/{layers[parts[2]]}/{parts[3]}", value))
        elif parts[1] == "out":
            variables.append((f"Output/{parts[2]}", value))
        else:
            layer = {"conv": "Conv", "fc": "Dense0"}[parts[1]]
            variables.append((f"4x4/{layer}/{parts[2]}", value))
    kwargs = {
        "resolution": config.resolution,
        "fmap_base": config.channel_base // 2,
        "fmap_max": config.channel_max,
        "mbstd_group_size": config.mbstd_group_size,
    }
    return _network(kwargs, variables)


def _synthesis_variable(parts, value):
    side = int(parts[0][1:])
    if parts[1] == "const":
        return "4x4/Const/const", value[None]
    if parts[-1] == "noise_const":
        doubled = 2 * int(np.log2(side))
        index = 0 if side == 4 else doubled - (5 if parts[1] == "conv0" else 4)
        return f"noise{index}", value[None, None]
    layer = {"conv0": "Conv0_up", "conv1": "Conv" if side == 4 else "Conv1"}.get(parts[1], "ToRGB")
    if "affine" in parts:
        value = value.T if parts[-1] == "weight" else value - 1
        return f"{side}x{side}/{layer}/mod_{parts[-1]}", value
    if layer == "Conv0_up" and parts[-1] == "weight":
        value = value[:, :, ::-1, ::-1]
    return f"{side}x{side}/{layer}/{parts[-1]}", _to_tensorflow(value)


def _to_tensorflow(value):
    if value.ndim == 4:
        return value.transpose(2, 3, 1, 0)
    return value.T if value.ndim == 2 else value


def _network(static_kwargs, variables, components=None):
    return Network(
        version=5,
        static_kwargs=static_kwargs,
        components=components or {},
        variables=variables,
        build_module_src=EVIL_SOURCE,
    )
