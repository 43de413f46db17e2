"""What a user may ask of a training run, as the command line and --config name it."""

from dataclasses import dataclass
from pathlib import Path

from data.conditions import DEFAULT_FEATURE_SCALE


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Options before presets are applied; None leaves the choice to the preset.

    Attributes:
        data: folder or zip of pairs.
        outdir: folder that holds run folders.
        cond: use the labels; None exactly when the data has VIS, NIR and identity_features.json.
        nir_cond: the NIR discriminator sees the labels; None is as the generator does.
        feature_scale: length that identity features get as conditions; None leaves them as they
            are, as the published training did.
        subset: number of pairs to use, drawn with the seed; None is all.
        mirror: add the flipped pairs.
        cfg: preset, one of PRESET_NAMES.
        gamma: R1 weight of the RGB discriminator.
        gamma_nir: R1 weight of the NIR discriminator; None is `gamma`.
        nir_r1: regularise the NIR discriminator; the published code never did.
        nir_loss_weight: weight of the NIR term in the generator's loss.
        kimg: thousands of images to show.
        batch: images an iteration over all processes.
        batch_gpu: images at once on a device; the rest is accumulated. None is all.
        pl_weight: weight of path length regularisation; 0 switches it off.
        style_mixing: probability of mixing two latents.
        ema_kimg: half-life of the generator's average in thousands of images.
        g_reg_interval, d_reg_interval: iterations between regularisation steps.
        aug: "ada", "noaug" or "fixed".
        p: strength for "fixed".
        target: ADA target.
        augpipe: a key of AUGPIPES.
        resume: snapshot to start from: a file, an address, or one of PUBLISHED_SNAPSHOTS.
        nir_init: "luma" or "random": how a NIR branch begins that the snapshot lacks.
        freezed: layers of the discriminators that do not train.
        cbase, cmax, w_dim, z_dim, map_depth, mbstd_group: sizes of the networks.
        noise: the generator adds noise to each layer.
        glr, dlr: learning rates.
        fp32: no 16-bit blocks.
        half: "float16" or "bfloat16".
        nhwc: channels innermost in memory; None on the CPU, where it is faster.
        allow_tf32: let CUDA round float32 products to TF32.
        nobench: no search for the fastest cuDNN algorithm.
        ops: op backend, one of torch_utils.ops.backends.OpBackend.
        gpus: processes; None is one, or what torchrun started.
        seed: of everything random.
        desc: text added to the run folder's name.
        tick: kimg between status lines.
        snap: ticks between snapshots; 0 only at the end.
        checkpoint_minutes: minutes between checkpoints; 0 only with snapshots.
        workers: processes that load data; 0 loads in the main one.
        cache: GiB of memory that decoded images may take; 0 decodes them when needed.
        device: "auto", "cpu" or "cuda".
        gpu_device_number: which GPU; None is the first visible one.
    """

    data: Path
    outdir: Path
    cond: bool | None = None
    nir_cond: bool | None = None
    feature_scale: float | None = DEFAULT_FEATURE_SCALE
    subset: int | None = None
    mirror: bool = False
    cfg: str = "auto"
    gamma: float | None = None
    gamma_nir: float | None = None
    nir_r1: bool = True
    nir_loss_weight: float = 1.0
    kimg: int | None = None
    batch: int | None = None
    batch_gpu: int | None = None
    pl_weight: float | None = None
    style_mixing: float | None = None
    ema_kimg: float | None = None
    g_reg_interval: int = 4
    d_reg_interval: int = 16
    aug: str = "ada"
    p: float | None = None
    target: float | None = None
    augpipe: str = "bgc"
    resume: str | None = None
    nir_init: str = "luma"
    freezed: int = 0
    cbase: int | None = None
    cmax: int | None = None
    w_dim: int = 512
    z_dim: int = 512
    map_depth: int | None = None
    mbstd_group: int | None = None
    noise: bool = True
    glr: float | None = None
    dlr: float | None = None
    fp32: bool = False
    half: str = "float16"
    nhwc: bool | None = None
    allow_tf32: bool = False
    nobench: bool = False
    ops: str = "auto"
    gpus: int | None = None
    seed: int = 0
    desc: str | None = None
    tick: float = 4.0
    snap: int = 50
    checkpoint_minutes: float = 10.0
    workers: int = 3
    cache: float = 1.0
    device: str = "auto"
    gpu_device_number: int | None = None
