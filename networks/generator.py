"""The dual-branch StyleGAN2 generator: one image head per modality on the same features and w.

Sources: Karras et al. 2020 (arXiv:1912.04958) for the skip generator and weight demodulation;
Tomašević et al. 2022 (arXiv:2205.01536) for the second head.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from networks.config import Architecture, GeneratorConfig
from networks.layers import SQRT_HALF, Convolution, FullyConnected, Mapping, scaled_clamp
from networks.options import NoiseMode
from torch_utils.checks import check_shape
from torch_utils.ops.bias_act import ACTIVATIONS, bias_act, scale_noise_bias_act
from torch_utils.ops.conv2d_resample import conv2d_resample
from torch_utils.ops.upfirdn2d import setup_filter, upsample2d

Images = dict[str, Tensor]
# One stream for the whole batch, one for each sample, or torch's global one.
NoiseSource = torch.Generator | Sequence[torch.Generator] | None

_DEMODULATION_EPS = 1e-8


def demodulation(weight: Tensor, styles: Tensor) -> Tensor:
    """Return the factor that brings each output channel back to unit variance.

    The variance is a small matrix product, so no weights per sample are ever built:
    d[n, o] = 1 / sqrt(sum_i s[n, i]^2 * sum_k w[o, i, k]^2 + eps).

    Args:
        weight: [O, I, K, K] float32.
        styles: [N, I] float32.
    Returns: [N, O] float32.
    Source: arXiv:1912.04958, equation 3.
    """
    power = weight.square().sum(dim=[2, 3])
    return (styles.square() @ power.t() + _DEMODULATION_EPS).rsqrt()


def limited_weight(weight: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """Move the scale of each output channel's weights into its demodulation factor.

    With what `SynthesisLayer.modulate` does to styles, sums of products are at most the inputs'
    largest value times sqrt(I * K * K), so that none of float16 activations up to the published
    clamp overflows. The demodulated result stays, and so do derivatives without the scale's own.

    Args:
        weight: [O, I, K, K] float32.
        factors: [N, O] float32, from `demodulation`.
    Returns: both, rescaled.
    Source: Karras et al. 2020 (arXiv:2006.06676), appendix on mixed precision.
    """
    scale = weight.detach().abs().amax(dim=[1, 2, 3]).clamp_min(_DEMODULATION_EPS)
    scale = scale * math.sqrt(weight[0].numel())
    return weight / scale[:, None, None, None], factors * scale


class SynthesisLayer(nn.Module):
    """Modulated convolution, noise, bias and activation."""

    def __init__(
        self, in_channels: int, out_channels: int, *, resolution: int, up: int, c: GeneratorConfig
    ) -> None:
        super().__init__()
        self.up, self.resolution = up, resolution
        self.activation, self.conv_clamp, self.use_noise = c.activation, c.conv_clamp, c.use_noise
        self.affine = FullyConnected(c.w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([out_channels, in_channels, 3, 3]))
        self.bias = nn.Parameter(torch.zeros([out_channels]))
        self.register_buffer("resample_filter", setup_filter(c.resample_filter), persistent=False)
        if c.use_noise:
            self.noise_strength = nn.Parameter(torch.zeros([]))
            self.register_buffer("noise_const", torch.randn([resolution, resolution]))

    def modulate(self, x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        """Scale the input channels by the style.

        Args:
            x: [N, I, H, W].
            w: [N, w_dim] float32.
        Returns: the modulated input [N, I, H, W] and the demodulation factors [N, O] float32.
        """
        styles, weight = self.affine(w), self.weight
        factors = demodulation(weight, styles)
        if x.dtype == torch.float16:
            # The demodulated result does not depend on the scale of styles; a largest style of 1
            # keeps products inside the range of float16.
            scale = styles.norm(float("inf"), dim=1, keepdim=True).clamp_min(_DEMODULATION_EPS)
            styles, factors = styles / scale, factors * scale
        return x * styles.to(x.dtype)[:, :, None, None], factors

    def forward(
        self,
        x: Tensor,
        w: Tensor,
        noise_mode: NoiseMode,
        generator: NoiseSource,
        gain: float = 1.0,
    ) -> Tensor:
        """x: [N, I, H, W], w: [N, w_dim] -> [N, O, H * up, W * up]."""
        return self.convolve(*self.modulate(x, w), noise_mode, generator, gain)

    def convolve(
        self,
        modulated: Tensor,
        factors: Tensor,
        noise_mode: NoiseMode,
        generator: NoiseSource,
        gain: float = 1.0,
    ) -> Tensor:
        """Finish the layer after `modulate`."""
        weight: Tensor = self.weight
        if modulated.dtype == torch.float16:
            weight, factors = limited_weight(weight, factors)
        x = conv2d_resample(
            modulated,
            weight,
            self.resample_filter,
            up=self.up,
            padding=1,
            flip_weight=self.up == 1,
        )
        noise = self._noise(x, noise_mode, generator)
        act_gain = ACTIVATIONS[self.activation].gain * gain
        clamp = scaled_clamp(self.conv_clamp, gain)
        return scale_noise_bias_act(
            x, factors, noise, self.bias, self.activation, gain=act_gain, clamp=clamp
        )

    def _noise(self, x: Tensor, noise_mode: NoiseMode, generator: NoiseSource) -> Tensor | None:
        if not self.use_noise or noise_mode is NoiseMode.NONE:
            return None
        if noise_mode is NoiseMode.CONST:
            return (self.noise_const * self.noise_strength)[None, None]
        shape = [1, self.resolution, self.resolution]
        if isinstance(generator, Sequence):
            rows = [torch.randn(shape, generator=one, device=x.device) for one in generator]
            return torch.stack(rows) * self.noise_strength
        noise = torch.randn([len(x), *shape], generator=generator, device=x.device)
        return noise * self.noise_strength


class ImageHead(nn.Module):
    """Modulated 1x1 convolution from features to the image of one modality; no demodulation."""

    def __init__(self, in_channels: int, image_channels: int, c: GeneratorConfig) -> None:
        super().__init__()
        self.conv_clamp = c.conv_clamp
        self.affine = FullyConnected(c.w_dim, in_channels, bias_init=1)
        self.weight = nn.Parameter(torch.randn([image_channels, in_channels, 1, 1]))
        self.bias = nn.Parameter(torch.zeros([image_channels]))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x: [N, I, H, W], w: [N, w_dim] -> [N, image_channels, H, W]."""
        styles = self.affine(w) * self.weight_gain
        # One image head has few outputs: a weight per sample is far smaller than scaled features.
        weight = self.weight[:, :, 0, 0].to(x.dtype) * styles.to(x.dtype)[:, None, :]
        return bias_act(_mix_channels(x, weight), self.bias, clamp=self.conv_clamp)


def _mix_channels(x: Tensor, weight: Tensor) -> Tensor:
    """x: [N, I, H, W], weight: [N, O, I] -> [N, O, H, W], without moving features in memory."""
    n, _, height, width = x.shape
    if x.is_contiguous(memory_format=torch.channels_last):
        y = torch.bmm(x.permute(0, 2, 3, 1).flatten(1, 2), weight.transpose(1, 2))
        return y.reshape(n, height, width, -1).permute(0, 3, 1, 2)
    return torch.bmm(weight, x.flatten(2)).reshape(n, -1, height, width)


class SynthesisBlock(nn.Module):
    """The layers of one resolution and the image heads behind them."""

    def __init__(self, resolution: int, config: GeneratorConfig) -> None:
        super().__init__()
        self.config, self.resolution, self.architecture = config, resolution, config.architecture
        self.is_first, self.is_last = resolution == 4, resolution == config.resolution
        out = config.channels_at(resolution)
        if self.is_first:
            self.const = nn.Parameter(torch.randn([out, 4, 4]))
        else:
            into = config.channels_at(resolution // 2)
            self.conv0 = SynthesisLayer(into, out, resolution=resolution, up=2, c=config)
            if self.architecture is Architecture.RESNET:
                self.skip = Convolution(
                    into, out, 1, has_bias=False, up=2, resample_filter=config.resample_filter
                )
        self.conv1 = SynthesisLayer(out, out, resolution=resolution, up=1, c=config)
        self.register_buffer(
            "resample_filter", setup_filter(config.resample_filter), persistent=False
        )
        self.heads = nn.ModuleDict()
        if self.is_last or self.architecture is Architecture.SKIP:
            for name, channels in config.heads.items():
                self.heads[name] = ImageHead(out, channels, config)

    @property
    def num_convolutions(self) -> int:
        """Layers that take a w of their own; the heads share the next one."""
        return 1 if self.is_first else 2

    def forward(
        self,
        x: Tensor | None,
        images: Images,
        ws: Tensor,
        noise_mode: NoiseMode,
        generator: NoiseSource,
    ) -> tuple[Tensor, Images, list[Tensor]]:
        """Run the block.

        Args:
            x: [N, I, H/2, W/2] features of the block before; None for the first.
            images: sums of the heads so far, [N, C, H/2, W/2] float32 a modality.
            ws: [N, num_convolutions + 1, w_dim] float32.
            noise_mode: see NoiseMode.
            generator: source of random noise.
        Returns: features [N, O, H, W], images [N, C, H, W], and the block's two feature maps.
        """
        dtype, noise = self.config.dtype_at(self.resolution, ws.device), (noise_mode, generator)
        if x is None:
            x = self.const.to(dtype)[None].expand(ws.shape[0], -1, -1, -1)
            first, factors = self.conv1.modulate(x, ws[:, 0])
            x = second = self.conv1.convolve(first, factors, *noise)
        elif self.architecture is Architecture.RESNET:
            x = x.to(dtype)
            first = self.conv0(x, ws[:, 0], *noise)
            second = self.conv1(first, ws[:, 1], *noise, gain=SQRT_HALF)
            x = self.skip(x, gain=SQRT_HALF) + second
        else:
            first = self.conv0(x.to(dtype), ws[:, 0], *noise)
            x = second = self.conv1(first, ws[:, 1], *noise)
        images = {name: upsample2d(image, self.resample_filter) for name, image in images.items()}
        for name, head in self.heads.items():
            image = head(x, ws[:, self.num_convolutions]).float()
            images[name] = images[name] + image if name in images else image
        return x, images, [first, second]


class Synthesis(nn.Module):
    """All blocks, from a learned constant to the images."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleDict(
            {f"b{res}": SynthesisBlock(res, config) for res in config.block_resolutions}
        )
        self.num_ws = sum(block.num_convolutions for block in self.blocks.values()) + 1

    def forward(
        self,
        ws: Tensor,
        noise_mode: NoiseMode | str = NoiseMode.RANDOM,
        generator: NoiseSource = None,
    ) -> Images:
        """Generate images.

        Args:
            ws: [N, L, w_dim] float32.
            noise_mode: "random", "const" or "none".
            generator: source of random noise, on the device of `ws`.
        Returns: float32 [N, C, R, R] a modality, nominally -1..1, not clipped.
        Raises: ValueError for ws of another shape or an unknown noise mode.
        """
        return self.with_features(ws, noise_mode, generator)[0]

    def with_features(
        self,
        ws: Tensor,
        noise_mode: NoiseMode | str = NoiseMode.RANDOM,
        generator: NoiseSource = None,
    ) -> tuple[Images, list[Tensor]]:
        """Generate images, and return two feature maps a block, which the interpreter reads.

        4x4: the modulated input of conv1, then its output; else the outputs of conv0 and conv1.
        """
        check_shape("ws", ws, None, self.num_ws, self.config.w_dim)
        mode, ws = NoiseMode(noise_mode), ws.float()
        x: Tensor | None = None
        images: Images = {}
        features: list[Tensor] = []
        start = 0
        for block in self.blocks.values():
            block_ws = ws[:, start : start + block.num_convolutions + 1]
            x, images, maps = block(x, images, block_ws, mode, generator)
            features.extend(maps)
            start += block.num_convolutions
        return images, features


class Generator(nn.Module):
    """Mapping and synthesis.

    Attributes:
        config: what it was built from.
        num_ws: number of w vectors a sample.
    """

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        self.config = config
        self.synthesis = Synthesis(config)
        self.num_ws = self.synthesis.num_ws
        self.mapping = Mapping(
            z_dim=config.z_dim,
            c_dim=config.c_dim,
            w_dim=config.w_dim,
            config=config.mapping,
            has_w_avg=True,
        )

    def map(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
    ) -> Tensor:
        """Map latents to one w a layer, moved towards the mean w by truncation.

        Args:
            z: [N, z_dim] float32, standard normal; None where z_dim is 0.
            c: [N, c_dim] float32; None for an unconditional network.
            truncation_psi: 1 leaves w as it is, 0 gives the mean.
            truncation_cutoff: number of first layers to truncate; None is all.
        Returns: [N, L, w_dim] float32.
        Source: arXiv:1812.04948, appendix B.
        """
        w = self.mapping(z, c)
        ws = w[:, None].expand(-1, self.num_ws, -1)
        if truncation_psi == 1:
            return ws
        truncated = self.mapping.w_avg.lerp(ws, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], ws[:, truncation_cutoff:]], dim=1)

    def forward(
        self,
        z: Tensor | None,
        c: Tensor | None = None,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        noise_mode: NoiseMode | str = NoiseMode.RANDOM,
        generator: NoiseSource = None,
    ) -> Images:
        """Return images of latents; see `map` and `Synthesis.forward`."""
        ws = self.map(z, c, truncation_psi, truncation_cutoff)
        return self.synthesis(ws, noise_mode, generator)
