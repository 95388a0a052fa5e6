"""What a program moves between chip and HBM, read off its HLO."""

import jax
import jax.numpy as jnp

from amsdff_jax.parallel.traffic import hbm_traffic

# 100 float32 numbers are read into the chip's memory, a quarter of them at a time, doubled there three times, and
# written back; a table of 50 bfloat16 numbers is copied into HBM.
PROGRAM = """HloModule jit_step

%fused_computation (x: f32[100]) -> f32[100] {
  %x = f32[100]{0} parameter(0)
  ROOT %add.9 = f32[100]{0} add(%x, %x)
}

%turn (carry: (s32[], f32[100])) -> (s32[], f32[100]) {
  %carry = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) parameter(0)
  %number = s32[]{:T(128)S(6)} get-tuple-element(%carry), index=0
  %numbers = f32[100]{0:T(128)S(1)} get-tuple-element(%carry), index=1
  %spilled = f32[100]{0:T(128)} fusion(%numbers), kind=kLoop, calls=%fused_computation
  %doubled = f32[100]{0:T(128)S(1)} copy(%spilled)
  ROOT %next = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) tuple(%number, %doubled)
}

%more (carry: (s32[], f32[100])) -> pred[] {
  %carry.1 = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) parameter(0)
  ROOT %yes = pred[]{:T(512)S(6)} constant(true)
}

ENTRY %main (numbers: f32[100], table: bf16[5,10]) -> (f32[100], bf16[5,10]) {
  %numbers.1 = f32[100]{0:T(128)} parameter(0), metadata={op_name="copy(numbers)"}
  %table = bf16[5,10]{1,0:T(8,128)(2,1)} parameter(1)
  %slice-start = ((f32[100]{0:T(128)}), f32[25]{0:T(128)S(1)}, s32[]{:S(2)}) slice-start(%numbers.1), slice={[0:25]}
  %slice-done = f32[25]{0:T(128)S(1)} slice-done(%slice-start)
  %slice-start.1 = ((f32[100]{0:T(128)}), f32[75]{0:T(128)S(1)}, s32[]{:S(2)}) slice-start(%numbers.1), slice={[25:100]}
  %slice-done.1 = f32[75]{0:T(128)S(1)} slice-done(%slice-start.1)
  %joined = f32[100]{0:T(128)S(1)} custom-call(%slice-done, %slice-done.1), custom_call_target="ConcatBitcast"
  %zero = s32[]{:T(128)S(6)} constant(0)
  %doubled.1 = f32[100]{0:T(128)S(1)} fusion(%joined), kind=kLoop, calls=%fused_computation
  %tuple = (s32[]{:T(128)S(6)}, f32[100]{0:T(128)S(1)}) tuple(%zero, %doubled.1)
  %while = (s32[]{:T(128)S(6)}, /*index=1*/f32[100]{0:T(128)S(1)}) while(%tuple), condition=%more, body=%turn
  %result = f32[100]{0:T(128)S(1)} get-tuple-element(%while), index=1
  %doubled.2 = f32[100]{0:T(128)} fusion(%result), kind=kLoop, calls=%fused_computation
  %copy-start = (bf16[5,10]{1,0:T(8,128)(2,1)}, bf16[5,10]{0,1:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%table)
  %copy-done = bf16[5,10]{0,1:T(8,128)(2,1)} copy-done(%copy-start)
  ROOT %results = (f32[100]{0:T(128)}, bf16[5,10]{0,1:T(8,128)(2,1)}) tuple(%doubled.2, %copy-done)
}
"""


def test_only_what_lies_in_hbm_counts():
    read, written, spilled, copied = 400, 400, 2 * 400, 2 * 100
    assert hbm_traffic(PROGRAM) == read + spilled + written + copied


def test_a_compiled_function_reads_its_arguments_and_writes_its_result():
    arguments = jax.ShapeDtypeStruct((3, 5), jnp.float32), jax.ShapeDtypeStruct((5, 7), jnp.float32)
    program = jax.jit(jnp.matmul).lower(*arguments).compile().as_text()
    assert hbm_traffic(program) == 4 * (3 * 5 + 5 * 7 + 3 * 7)
