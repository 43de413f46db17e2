"""Published command lines with only the script's name changed: they parse and mean the same.

Lines marked BiFace and Arc are those of the two READMEs; the others are written from the options
that StyleGAN2-ADA and StyleGAN3 document.
"""

import json
import shlex

import numpy as np
import pytest
from click.testing import CliRunner

from tests.helpers.images import write_json, write_pairs
from train_db_stylegan2 import main

SIDE = 8
FFHQ = {"ada.kimg": 100, "ema_rampup": None, "nir_init": "luma"}
FROM_SCRATCH = {"resume": None, "nir_init": None, "ada.kimg": 500}

# Placeholders: {flat} is a folder of images with a sibling NIR, {arc} has VIS, NIR and
# identity_features.json, {pairs} has VIS and NIR.
LINES = {
    "BiFace, step 1": (
        '--cfg="auto" --snap=20 --gpus=1 --mirror=1 --GPU_DEVICE_NUMBER=0 --batch=12'
        ' --data="{flat}" --resume="ffhq256" --outdir="EXPERIMENTS/DB_SG2/Training_tufts_256"',
        {
            **FFHQ,
            "batch": 12,
            "data.mirror": True,
            "data.cond": False,
            "kimg": 10000,
            "snap": 20,
            "generator.mapping.layers": 8,
            "loss.weights": {"rgb": 1.0, "nir": 1.0},
            # of the heuristic batch, which --batch leaves as it is
            "loss.gammas.rgb": 0.0002 * SIDE**2 / 32,
            "ema_kimg": 10,
        },
    ),
    "Arc, step 3": (
        '--data="{arc}"  --outdir="EXPERIMENTS/training_output" --NIR_loss_weight=0.1'
        ' --cfg="auto" --snap=20 --batch=12 --mirror=1 --gpus=1 --gpu_device_number=0',
        {
            **FROM_SCRATCH,
            "batch": 12,
            "loss.weights": {"rgb": 1.0, "nir": 0.1},
            "data.cond": True,
            "generator.c_dim": 6,
            "discriminators.rgb.c_dim": 6,
            "discriminators.nir.c_dim": 6,
            "ema_rampup": 0.05,
        },
    ),
    "Arc, --cond=0": (
        "--data={arc} --outdir=out --NIR_loss_weight=0.5 --cfg=auto --batch=12 --cond=0",
        {"data.cond": False, "generator.c_dim": 0, "loss.weights": {"rgb": 1.0, "nir": 0.5}},
    ),
    "Arc, the published discriminators": (
        "--data={arc} --outdir=out --batch=12 --cond=1 --nir-cond=0 --nir-r1=0",
        {
            "discriminators.rgb.c_dim": 6,
            "discriminators.nir.c_dim": 0,
            "loss.gammas.nir": 0,
        },
    ),
    "BiFace, its own preset": (
        "--cfg=biface256 --data={pairs} --outdir=out --GPU_DEVICE_NUMBER=1",
        {"batch": 12, "loss.gammas.rgb": 1, "ema_kimg": 20, "ema_rampup": None, "kimg": 25000},
    ),
    "BiFace, auto_512": (
        "--cfg=auto_512 --data={pairs} --outdir=out",
        {"batch": 16, "loss.gammas.rgb": 0.0002 * SIDE**2 / 16},
    ),
    "BiFace, auto_128": ("--cfg=auto_128 --data={pairs} --outdir=out", {"batch": 64}),
    "StyleGAN2-ADA, custom data on one GPU": (
        "--outdir=~/training-runs --data={pairs} --gpus=1",
        {
            **FROM_SCRATCH,
            "batch": 32,
            "ada.target": 0.6,
            "ada.mode": "ada",
            "data.mirror": False,
            "snap": 50,
            "tick": 4,
            "generator.conv_clamp": 256,
            "generator.num_fp16_res": 4,
        },
    ),
    "StyleGAN2-ADA, conditional CIFAR on two": (
        "--outdir=~/training-runs --data={arc} --gpus=2 --cfg=cifar --cond=1",
        {
            "batch": 64,
            "batch_gpu": 32,
            "kimg": 100000,
            "data.cond": True,
            "loss.pl_weight": 0,
            "loss.style_mixing": 0,
            "discriminators.rgb.architecture": "orig",
            "discriminators.rgb.mbstd_group_size": 32,
            "generator.mapping.layers": 2,
        },
    ),
    "StyleGAN2-ADA, transfer on four": (
        "--outdir=~/training-runs --data={pairs} --gpus=4 --cfg=paper1024 --mirror=1"
        " --resume=ffhq1024 --snap=10",
        {**FFHQ, "batch": 32, "batch_gpu": 8, "loss.gammas.rgb": 2, "g_lr": 0.002, "snap": 10},
    ),
    "StyleGAN2-ADA, StyleGAN2 on eight": (
        "--outdir=~/training-runs --data={pairs} --gpus=8 --cfg=stylegan2 --mirror=1 --aug=noaug",
        {
            "ada.mode": "noaug",
            "ada.p": 0,
            "batch": 32,
            "batch_gpu": 4,
            "loss.gammas.rgb": 10,
            "generator.channel_base": 32768,
        },
    ),
    "StyleGAN2-ADA, every option": (
        "--outdir=out --gpus=2 --snap=5 --metrics=fid50k_full,ppl2_wend --seed=3 -n --data={arc}"
        " --cond=true --subset=3 --mirror=false --cfg=paper256 --gamma=4 --kimg=7 --batch=16"
        " --aug=ada --target=0.7 --augpipe=bg --resume=noresume --freezed=2 --fp32=1 --nhwc=1"
        " --nobench=1 --allow-tf32=1 --workers=2",
        {
            "seed": 3,
            "data.subset": 3,
            "data.cond": True,
            "loss.gammas": {"rgb": 4, "nir": 4},
            "kimg": 7,
            "batch": 16,
            "ada.target": 0.7,
            "augment.brightness": 0,
            "augment.scale": 1,
            "resume": None,
            "freezed": 2,
            "generator.num_fp16_res": 0,
            "generator.conv_clamp": None,
            "discriminators.nir.num_fp16_res": 0,
            "nhwc": True,
            "nobench": True,
            "allow_tf32": True,
            "workers": 2,
        },
    ),
    "StyleGAN2-ADA, fixed augmentation": (
        "--outdir=out --data={pairs} --aug=fixed --p=0.4 --augpipe=bgcfnc",
        {"ada.mode": "fixed", "ada.p": 0.4, "augment.cutout": 1},
    ),
    "StyleGAN2-ADA, from an address": (
        "--outdir=out --data={pairs} --resume=https://host/nets/network-snapshot-000100.pkl",
        {**FFHQ, "resume": "https://host/nets/network-snapshot-000100.pkl"},
    ),
    "StyleGAN3, accumulation": (
        "--outdir=~/training-runs --cfg=stylegan2 --data={pairs} --gpus=8 --batch=32 --gamma=10"
        " --mirror=1 --batch-gpu=2 --tick=1 --desc=mine",
        {"batch": 32, "batch_gpu": 2, "tick": 1, "discriminators.rgb.mbstd_group_size": 2},
    ),
    "StyleGAN3, sizes and rates": (
        "--outdir=out --cfg=stylegan2 --data={pairs} --gpus=1 --batch=32 --gamma=0.8"
        " --cbase=16384 --cmax=256 --glr=0.0025 --dlr=0.001 --map-depth=2 --mbstd-group=8"
        " --freezed=1 --kimg=5000 --snap=20 --nobench=true --workers=3 --dry-run",
        {
            "generator.channel_base": 16384,
            "discriminators.nir.channel_max": 256,
            "g_lr": 0.0025,
            "d_lr": 0.001,
            "generator.mapping.layers": 2,
            "discriminators.rgb.mbstd_group_size": 8,
            "kimg": 5000,
        },
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for name in ("pairs", "arc"):
        write_pairs(root / name, size=SIDE)
    stems = sorted(path.name for path in (root / "arc" / "VIS").iterdir())
    features = np.random.default_rng(0).standard_normal((len(stems), 6)).tolist()
    write_json(root / "arc" / "identity_features.json", dict(zip(stems, features, strict=True)))
    flat = write_pairs(root / "flat", size=SIDE)
    (flat / "VIS").rename(flat / "images")
    return {"pairs": root / "pairs", "arc": root / "arc", "flat": flat / "images"}


@pytest.mark.parametrize("name", LINES)
def test_published_lines_mean_the_same(places, tmp_path, monkeypatch, name):
    monkeypatch.setenv("BIFACE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    line, expected = LINES[name]
    arguments = shlex.split(line.format(**places))
    result = CliRunner().invoke(main, [*arguments, "--dry-run", "--device=cpu"])
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    for path, value in expected.items():
        assert lookup(plan, path) == value, path
    assert list(tmp_path.iterdir()) == []


def lookup(plan, path):
    first, *others = path.split(".")
    found = plan["identity" if first in plan["identity"] else "settings"][first]
    for key in others:
        found = found[key]
    return pytest.approx(found) if isinstance(found, float) else found


REFUSED = {
    "--cfg=stylegan3-t": "'stylegan3-t' is an alias-free network",
    "--cfg=stylegan3-r": "'stylegan3-r' is an alias-free network",
    "--metrics=fid50k_ful": "metric 'fid50k_ful' is not known; did you mean 'fid50k_full'?",
    "--resume=ffhq140": "ffhq140 is not a file, an address or one of ffhq256, ffhq512",
    "--resume=ftp://host/a.pkl": "an address must be of http, https, file",
    "--nir-cond=1": "--nir-cond=1 needs labels",
    "--nir-init=grey": "--nir-init",
    "--cache=-1": "--cache",
}


@pytest.mark.parametrize("option", REFUSED)
def test_what_is_not_known_is_refused_by_name(places, tmp_path, option):
    arguments = [f"--data={places['pairs']}", f"--outdir={tmp_path}", option, "--device=cpu"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert REFUSED[option] in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []
