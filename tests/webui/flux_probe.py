"""A canvas painted by a small random FLUX transformer of the host's own class, by the host's own sampler. Run by the python of a WebUI of Forge's family, in
its folder. See `test_flux.py`.

    python flux_probe.py CASE.safetensors RESULT.safetensors

In: `x_0` (B, 16, h, w) the context, `target` (h, w) nonzero where it is painted, `noise` like `x_0`. Out: `handed` (calls, rows, 16, h, w), what the
transformer was handed, rows as the host puts them; `said`, what the sampler was answered at each step; `painted`, with the canvas; `plain` and `after`,
without, before and after it.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
if __name__ == "__main__":
    sys.path[:0] = [str(Path.cwd()), str(ROOT)]

from lib_refonly.conditioning.canvas import CleanContext  # noqa: E402
from lib_refonly.hosts import forge  # noqa: E402
from tests.webui.unet_probe import note_places, ready_forge  # noqa: E402

TEXT, POOLED, CFG, STEPS = 32, 24, 3.0, 4
_SHAPE: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": POOLED,
    "context_in_dim": TEXT,
    "hidden_size": 64,
    "num_heads": 2,
    "axes_dim": [8, 12, 12],
    "theta": 10_000,
    "mlp_ratio": 2.0,
    "depth": 1,
    "depth_single_blocks": 1,
    "qkv_bias": True,
    "guidance_embed": False,
}
"""Forge Neo's class asks for two more than Forge's."""


def _patcher() -> Any:
    ready_forge()
    from backend.modules.k_prediction import PredictionFlux  # type: ignore[import-not-found]
    from backend.nn.flux import IntegratedFluxTransformer2DModel  # type: ignore[import-not-found]
    from backend.patcher.unet import UnetPatcher  # type: ignore[import-not-found]

    torch.manual_seed(0)
    known = inspect.signature(IntegratedFluxTransformer2DModel.__init__).parameters
    network = IntegratedFluxTransformer2DModel(**{name: value for name, value in _SHAPE.items() if name in known})
    network.eval().requires_grad_(False)
    note_places(network)
    config = SimpleNamespace(memory_usage_factor=1.0, sampling_settings={})
    wanted = "model_config" in inspect.signature(PredictionFlux.__init__).parameters
    return UnetPatcher.from_model(network, None, config, k_predictor=PredictionFlux(config) if wanted else PredictionFlux())


def _sampled(patcher: Any, noise: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The last latents, what the transformer was handed, and what the sampler was answered."""
    from backend.sampling.condition import compile_conditions  # type: ignore[import-not-found]
    from backend.sampling.sampling_function import sampling_function_inner  # type: ignore[import-not-found]
    from k_diffusion.sampling import sample_euler  # type: ignore[import-not-found]

    random = torch.Generator().manual_seed(3)
    cond, uncond = (
        compile_conditions({"crossattn": torch.randn(1, 5, TEXT, generator=random), "vector": torch.randn(1, POOLED, generator=random)}) for _ in range(2)
    )
    handed, said = list[Tensor](), list[Tensor]()

    def model(x: Tensor, sigma: Tensor, **_: Any) -> Tensor:
        said.append(sampling_function_inner(patcher.model, x, sigma, uncond, cond, CFG, patcher.model_options))
        return said[-1]

    seen = patcher.model.diffusion_model.register_forward_pre_hook(lambda _, args: handed.append(args[0].clone()))
    last = sample_euler(model, noise, torch.linspace(1, 0, STEPS + 1), disable=True)
    seen.remove()
    return last, handed, said


def main(case: Path, result: Path) -> None:
    given = load_file(case)
    patcher = _patcher()
    with torch.inference_mode():
        plain = _sampled(patcher, given["noise"])[0]
        canvas = CleanContext(given["x_0"], given["target"].bool())
        painted, handed, said = _sampled(forge.patched_flow(patcher, canvas), given["noise"])
        after = _sampled(patcher, given["noise"])[0]
    save_file({"plain": plain, "painted": painted, "after": after, "handed": torch.stack(handed), "said": torch.stack(said)}, result)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
