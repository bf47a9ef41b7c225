"""Run by a WebUI's own python, in the WebUI's folder: one step of a case through the host's own UNet classes, plain and with a plan. See `test_unet.py`.

    python unet_probe.py CASE.safetensors RESULT.safetensors

In: weights by ldm's names, and the numbers of one step. Out: what the UNet says, rows conditional first: "base", "nought" (the plan at strength 0),
"ours" and "after" (plain again).
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(Path.cwd()), str(ROOT)]

from lib_refonly.adapters.ip_adapter import read_ip_adapter  # noqa: E402
from lib_refonly.adapters.prompt import image_prompts  # noqa: E402
from lib_refonly.conditioning.plan import ImagePrompt, ImageTokens, InputFeature, Plan  # noqa: E402
from lib_refonly.hosts import forge, ldm  # noqa: E402
from lib_refonly.hosts.anatomy import Anatomy  # noqa: E402
from lib_refonly.hosts.session import Session  # noqa: E402
from lib_refonly.hosts.stand_in import Prediction, StandIn  # noqa: E402
from lib_refonly.refonly.hosted import host_params  # noqa: E402

STRENGTH = 0.8
Numbers = Mapping[str, Tensor]
UNET, OTHER = "unet.", "other."
"""Prefixes of weights: of the UNet that the plan is for, and of the checkpoint's own where that one stands in."""


@dataclass(frozen=True)
class Case:
    """`config`, `other`: of diffusers. `params`: of a class that no config can be said in (SDXL's). `adapter`: a file, for a plan of the public adapters;
    else the plan is a full model's: `tokens` in the place of the text, `feature` after conv_in. `t`: a whole timestep."""

    numbers: Numbers
    kind: Literal["ldm", "sgm"]
    config: Mapping[str, Any]
    t: int
    params: Mapping[str, Any] | None = None
    other: Mapping[str, Any] | None = None
    prediction: Prediction = "epsilon"
    adapter: str = ""

    @classmethod
    def read(cls, path: Path) -> Case:
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["case"])
            return cls({name: file.get_tensor(name) for name in file.keys()}, **said)  # noqa: SIM118

    def write(self, path: Path) -> None:
        said = {name: value for name, value in vars(self).items() if name != "numbers"}
        save_file({name: tensor.contiguous() for name, tensor in self.numbers.items()}, path, {"case": json.dumps(said)})

    def weights(self, prefix: str) -> dict[str, Tensor]:
        return {name.removeprefix(prefix): tensor for name, tensor in self.numbers.items() if name.startswith(prefix)}

    def plan(self, anatomy: Anatomy, strength: float = STRENGTH) -> Plan:
        if self.adapter:
            adapter = read_ip_adapter(Path(self.adapter), anatomy.sites)
            nothing, tokens = (adapter.to_tokens(self.numbers[name]) for name in ("nothing", "picture"))
            return Plan(tuple(image_prompts(adapter, [(tokens, None)], nothing, strength)))
        picture = ImageTokens(self.numbers["tokens"], mask=self.numbers["mask"])
        return Plan((ImagePrompt((picture,), strength),), (InputFeature(self.numbers["feature"], strength),))


Step = Callable[[float | None], Tensor]
"""One step with the plan at that strength, or plain."""


def build(unet_class: Any, config: Mapping[str, Any], params: Mapping[str, Any] | None, weights: Numbers) -> nn.Module:
    known = inspect.signature(unet_class.__init__).parameters
    unet = unet_class(**({name: value for name, value in params.items() if name in known} if params else host_params(unet_class, config)))
    own = unet.state_dict()
    unet.load_state_dict({name: tensor.reshape(own[name].shape) for name, tensor in weights.items()})
    return unet.eval().requires_grad_(False)


def _both(case: Case, unet_class: Any) -> tuple[nn.Module, StandIn | None]:
    """The checkpoint's UNet, and what stands in for it."""
    unet = build(unet_class, case.config, case.params, case.weights(UNET))
    if case.other is None:
        return unet, None
    return build(unet_class, case.other, None, case.weights(OTHER)), StandIn(unet, case.config["cross_attention_dim"], case.prediction)


def on_a1111(case: Case) -> Step:
    sys.path += [str(Path.cwd() / "repositories" / name) for name in ("stable-diffusion-stability-ai", "generative-models")]
    if case.kind == "sgm":
        from sgm.modules.diffusionmodules.openaimodel import UNetModel  # type: ignore[import-not-found]
        from sgm.modules.diffusionmodules.wrappers import OpenAIWrapper  # type: ignore[import-not-found]

        unet, stand_in = _both(case, UNetModel)
        model = OpenAIWrapper(unet)
    else:
        from ldm.models.diffusion.ddpm import DiffusionWrapper  # type: ignore[import-not-found]
        from ldm.modules.diffusionmodules.openaimodel import UNetModel

        unet, stand_in = _both(case, UNetModel)
        model = DiffusionWrapper({"target": "torch.nn.Identity"}, "crossattn")
        model.diffusion_model = unet
    n = case.numbers
    samples, texts = torch.cat([n["sample"]] * 2), torch.cat([n["cond"], n["uncond"]]).repeat_interleave(len(n["sample"]), 0)
    times = torch.full((len(samples),), case.t)

    def step(strength: float | None) -> Tensor:
        cursor, attachment = ldm.RowCursor(), None
        if strength is not None:
            anatomy = ldm.anatomy(stand_in.unet if stand_in else unet)
            attachment = ldm.Attachment(model, Session(anatomy, case.plan(anatomy, strength), cursor), stand_in, "epsilon", n["alphas_cumprod"])
        cursor.begin_step(len(n["sample"]))
        try:
            if case.kind == "sgm":
                return model(samples, times, {"crossattn": texts, "vector": n["sizes"].expand(len(samples), -1)})
            return model(samples, times, c_crossattn=[texts])
        finally:
            if attachment is not None:
                attachment.remove()

    return step


@dataclass(frozen=True)
class Family:
    """What a host of Forge's family has for a step: a patcher, `said(text, sizes)` (a text as its sampler takes it), and its sampler's call of the UNet."""

    patcher: Any
    stand_in: StandIn | None
    said: Callable[[Tensor, Tensor | None], Any]
    denoised: Callable[..., Any]


def ready_forge() -> None:
    """After this the packages of Forge and Forge Neo can be imported, and compute in float32 on the CPU."""
    flags = Path("backend", "args.py").read_text("utf-8")
    sys.argv[1:] = [next(flag for flag in ("--always-cpu", "--cpu") if f'"{flag}"' in flags)]
    sys.path += [str(Path.cwd() / "packages_3rdparty"), str(Path.cwd() / "modules_forge" / "packages")]
    from backend import args  # type: ignore[import-not-found]

    if hasattr(args.dynamic_args, "ops"):  # Forge Neo's loader says here how it reads the weights
        args.dynamic_args.ops = "float32"


def note_places(network: nn.Module) -> None:
    """What the host's loader notes on a network."""
    places = dict.fromkeys(("load_device", "offload_device", "initial_device"), torch.device("cpu"))
    vars(network).update(places | {"storage_dtype": torch.float32, "computation_dtype": torch.float32})


def on_forge(case: Case) -> Step:
    """Forge and Forge Neo."""
    ready_forge()
    from backend.modules.k_prediction import Prediction as Predictor  # type: ignore[import-not-found]
    from backend.nn.unet import IntegratedUNet2DConditionModel  # type: ignore[import-not-found]
    from backend.patcher.unet import UnetPatcher  # type: ignore[import-not-found]
    from backend.sampling.condition import compile_conditions  # type: ignore[import-not-found]
    from backend.sampling.sampling_function import calc_cond_uncond_batch  # type: ignore[import-not-found]

    unet, stand_in = _both(case, IntegratedUNet2DConditionModel)
    note_places(unet)
    predictor = Predictor(1.0, "epsilon", "linear", 0.00085, 0.012, 1000)
    patcher = UnetPatcher.from_model(unet, None, SimpleNamespace(memory_usage_factor=1.0), k_predictor=predictor)

    def said(text: Tensor, sizes: Tensor | None) -> Any:
        return compile_conditions(text if sizes is None else {"crossattn": text, "vector": sizes})

    return _in_the_family(case, Family(patcher, stand_in, said, calc_cond_uncond_batch))


def on_reforge(case: Case) -> Step:
    sys.argv[1:] = ["--always-cpu"]
    from ldm_patched.modules import options  # type: ignore[import-not-found]

    options.enable_args_parsing()
    from ldm_patched.ldm.modules.diffusionmodules.openaimodel import UNetModel  # type: ignore[import-not-found]
    from ldm_patched.modules import conds  # type: ignore[import-not-found]
    from ldm_patched.modules.model_base import BaseModel  # type: ignore[import-not-found]
    from ldm_patched.modules.samplers import calc_cond_uncond_batch  # type: ignore[import-not-found]
    from modules_forge.unet_patcher import UnetPatcher  # type: ignore[import-not-found]

    unet, stand_in = _both(case, UNetModel)
    config = {"unet_config": {"disable_unet_model_creation": True}, "latent_format": None, "manual_cast_dtype": None}
    model = BaseModel(SimpleNamespace(**config, sampling_settings={}, memory_usage_factor=1.0))
    model.diffusion_model = unet
    cpu = torch.device("cpu")

    def said(text: Tensor, sizes: Tensor | None) -> Any:
        added = {} if sizes is None else {"y": conds.CONDRegular(sizes)}
        return [{"model_conds": {"c_crossattn": conds.CONDCrossAttn(text)} | added, "uuid": 0}]

    return _in_the_family(case, Family(UnetPatcher(model, cpu, cpu), stand_in, said, calc_cond_uncond_batch))


def _in_the_family(case: Case, family: Family) -> Step:
    n, patcher, stand_in = case.numbers, family.patcher, family.stand_in
    sigma = ((1 - n["alphas_cumprod"][case.t]) / n["alphas_cumprod"][case.t]) ** 0.5
    noisy = n["sample"] * (sigma**2 + 1) ** 0.5

    def step(strength: float | None) -> Tensor:
        used = patcher
        if strength is not None:
            unet = stand_in.unet if stand_in else patcher.model.diffusion_model
            used, _ = forge.patched(patcher, case.plan(forge.anatomy(unet), strength), stand_in)
        texts = [family.said(n[half], n.get("sizes")) for half in ("cond", "uncond")]
        pictures = family.denoised(used.model, *texts, noisy, sigma.expand(len(noisy)), used.model_options)
        return (torch.cat([noisy] * 2) - torch.cat(list(pictures))) / sigma

    return step


def _host() -> Callable[[Case], Step]:
    for folder, host in (("backend", on_forge), ("ldm_patched", on_reforge)):
        if Path(folder).is_dir():
            return host
    return on_a1111


def main(case: Path, result: Path) -> None:
    with torch.inference_mode():
        step = _host()(Case.read(case))
        found = {name: step(strength) for name, strength in (("base", None), ("nought", 0.0), ("ours", STRENGTH), ("after", None))}
    save_file({name: tensor.clone().contiguous() for name, tensor in found.items()}, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
