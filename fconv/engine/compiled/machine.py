"""The processor that this process runs on, and LLVM's compiler for it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fconv.engine.compiled.llvm import Module

_L2_SIZE = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")


class Machine:
    """A processor, as LLVM knows it.

    Attributes
    ----------
    vector_bytes, registers : int
        Of a vector, and how many vectors there are registers for.
    avx512 : bool
        There are the instructions of AVX-512.
    embedded : bool
        A product takes a number from memory and repeats it in all lanes by itself.
    masks : bool
        Masks have registers of their own, and a store with one takes no longer than without. Otherwise they
        are kept in the signs of integers.
    l2_bytes : int
        Of a core's L2 cache, or a MiB where the system does not say it.
    """

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        self.llvm = llvm
        for initialize in (llvm.initialize_native_target, llvm.initialize_native_asmprinter):
            initialize()
        self.cpu, self._features = llvm.get_host_cpu_name(), llvm.get_host_cpu_features()
        self._target = llvm.Target.from_default_triple()
        self._engines: list[Any] = []  # code lives as long as its engine
        has = {name for name, there in self._features.items() if there}
        self.x86 = self._target.triple.startswith("x86_64")
        self.vector_bytes = 64 if "avx512f" in has else 32 if "avx" in has else 16
        self.registers = 32 if "avx512f" in has or not self.x86 else 16
        self.avx512 = self.embedded = self.masks = "avx512f" in has
        self.l2_bytes = _l2_bytes()

    def compile(self, module: Module) -> tuple[int, ...]:
        """Compile a module; return the addresses of its exported functions."""
        llvm = self.llvm
        parsed = llvm.parse_assembly(module.text())
        target = self._target.create_target_machine(
            cpu=self.cpu, features=self._features.flatten(), opt=2, jit=True
        )
        parsed.triple, parsed.data_layout = self._target.triple, str(target.target_data)
        # Kernels are written as they should run: what is left to do is to keep variables in registers and to
        # fold addresses. The usual pipeline takes twenty times as long, and unrolling makes registers spill.
        builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=2))
        passes = llvm.create_new_module_pass_manager()
        for name in ("sroa", "loop_rotate", "instruction_combine", "simplify_cfg"):
            getattr(passes, f"add_{name}_pass")()
        passes.run(parsed, builder)
        engine = llvm.create_mcjit_compiler(parsed, target)
        engine.finalize_object()
        self._engines.append(engine)
        return tuple(int(engine.get_function_address(f.name)) for f in module.functions if f.exported)


@lru_cache(maxsize=1)
def machine() -> Machine:
    """Return the processor that this process runs on."""
    return Machine()


def _l2_bytes() -> int:
    try:
        return int(_L2_SIZE.read_text(encoding="ascii").strip().removesuffix("K")) << 10
    except (OSError, ValueError):
        return 1 << 20
